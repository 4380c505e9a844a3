"""Stems to the finished waves: mix, stems that sum to it, loudness, limiter, fades.

Reads and writes no files. The measures are those of BS.1770 (`yuegguf.audio.loudness`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio import dsp, limiter
from yuegguf.audio.dsp import Wave
from yuegguf.audio.levels import decibels
from yuegguf.audio.loudness import integrated_loudness, true_peak_level
from yuegguf.audio.stereo import side_of
from yuegguf.codec.protocol import CODEC_RATE, SONG_RATE
from yuegguf.request.song_request import MixMode, Output
from yuegguf.stages.render import TRACKS, Stems

TRUE_PEAK = 10 ** (-1 / 20)
"""Maximum true peak of a mix that is brought to a loudness: -1 dB of full scale."""
MAX_LIMITING_DB = 3.0
"""Most that the limiter reduces a peak for the sake of loudness."""
LOUDNESS_TOLERANCE = 0.05
"""Difference from the target, LU, at which the gain is no longer corrected."""
LOUDNESS_PASSES = 3
"""Times that the gain is corrected for what the limiter took."""
SHORT_OF_TARGET = 0.5
"""Difference from the target, LU, from which on it is said."""


@dataclass(frozen=True)
class RecordedTrack:
    """A recorded stem that takes the place of a decoded track."""

    track: int
    """0 = vocal, 1 = instrumental."""
    wave: Wave | None
    """[882·T] at 44.1 kHz; None = silence."""


@dataclass(frozen=True)
class Master:
    """The finished waves at 44.1 kHz: [882·T], or [882·T, 2] of a song in stereo."""

    mix: Wave
    vocals: Wave
    instrumental: Wave
    notice: str = ""
    """Why the mix has not the loudness that was asked for; empty where it has."""


def master(stems: Stems, output: Output | None = None, recording: RecordedTrack | None = None) -> Master:
    """Stems → the mix and both tracks, each [882·T] at 44.1 kHz; `stems` stay as they are.

    The mix is the sum of the joined stems; all three get one gain curve, of loudness, limiter and fades, so
    they still sum to it. Raw stems and the mix are finished each by itself. No sample exceeds ±0.99, no true
    peak of a mix of some loudness -1 dB; only the mode "upstream" may exceed that: the official file is not
    limited (`infer.py`), and its stems are clamped. A `recording`, whose track of the stems is silent, goes
    into the mix as it is.
    """
    output = output or Output()
    if output.mix == "upstream":
        return _upstream(stems, output, recording)
    if output.stem_mode == "joined":
        vocals, instrumental = _joined(stems, output, recording)
        backing = _channels(instrumental, instrumental, output)
        mix = [vocals + wave for wave in backing]
        notice = _finish([*mix, vocals, *backing], output, len(mix))
        return Master(_file(mix), _file([vocals] * len(mix)), _file(backing), notice)
    vocals, instrumental = (wave.copy() for wave in _raw_tracks(stems, output, recording))
    mix = _channels(_raw_mix(stems, output, recording), _gains(output)[1] * instrumental, output)
    notice = _finish(mix, output, len(mix))
    backing = _held_below(_channels(instrumental, instrumental, output), output)
    return Master(_file(mix), _file(_held_below([vocals], output) * len(mix)), _file(backing), notice)


def _channels(wave: Wave, instrumental: Wave, output: Output) -> list[Wave]:
    """A wave as one channel, or as two with the sides of the instrumental that is in it."""
    if not output.stereo:
        return [wave]
    side = side_of(instrumental, SONG_RATE)
    return [wave + side, wave - side]


def _file(channels: list[Wave]) -> Wave:
    """Channels as they are written: [S], or [S, channels] of several."""
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=1)


def finish_track(wave: Wave, output: Output) -> Wave:
    """One track's wave [S] at 44.1 kHz → limited or rescaled, and faded; at its own loudness."""
    if output.mix == "upstream":
        return limiter.rescale(wave) if output.rescale else limiter.clamp(wave)
    return _held_below([wave.copy()], output)[0]


# --- tracks -------------------------------------------------------------------------------------------


def _joined(stems: Stems, output: Output, recording: RecordedTrack | None) -> list[Wave]:
    """New waves of both tracks, with their gains, whose sum is the mix."""
    gains = _gains(output)
    if output.mix == "hybrid":
        highs = [gain * wave for gain, wave in zip(gains, stems.upsampled, strict=True)]
        lows = [
            dsp.resample(gain * wave, CODEC_RATE, SONG_RATE)
            for gain, wave in zip(gains, stems.codec, strict=True)
        ]
        tracks = dsp.cross_over(lows, highs, SONG_RATE)
    else:
        tracks = [gain * _track(stems, row, output.mix) for row, gain in enumerate(gains)]
    if recording and recording.wave is not None:
        tracks[recording.track] = gains[recording.track] * recording.wave
    return tracks


def _raw_tracks(stems: Stems, output: Output, recording: RecordedTrack | None) -> list[Wave]:
    tracks = [_track(stems, row, output.mix) for row in range(len(TRACKS))]
    if recording and recording.wave is not None:
        tracks[recording.track] = recording.wave
    return tracks


def _raw_mix(stems: Stems, output: Output, recording: RecordedTrack | None) -> Wave:
    """The mix from the sums of both tracks, which is how songs were mixed before their stems were joined."""
    if output.mix == "hybrid":
        codec = dsp.resample(_sum(stems.codec, output), CODEC_RATE, SONG_RATE)
        mix = dsp.cross_over([codec], [_sum(stems.upsampled, output)], SONG_RATE)[0]
    elif output.mix == "codec":  # one resampling: it is linear
        mix = dsp.resample(_sum(stems.codec, output), CODEC_RATE, SONG_RATE)
    else:
        mix = _sum([_track(stems, row, output.mix) for row in range(len(TRACKS))], output)
    if recording and recording.wave is not None:
        mix = mix + _gains(output)[recording.track] * recording.wave
    return mix


def _upstream(stems: Stems, output: Output, recording: RecordedTrack | None) -> Master:
    """Steps 1 to 3 of the tail of `infer.py`: the 16 kHz stems are always clamped, `rescale` or not."""
    if recording and recording.wave is not None:
        mix = finish_track(_raw_mix(stems, output, recording), output)
    else:
        codec = _sum([limiter.clamp(wave) for wave in stems.codec], output)
        song = finish_track(_sum(stems.upsampled, output), output)
        mix = dsp.mix_upstream(codec, song, CODEC_RATE, SONG_RATE)
    vocals, instrumental = (finish_track(wave, output) for wave in _raw_tracks(stems, output, recording))
    return Master(mix, vocals, instrumental)


def _track(stems: Stems, row: int, mode: MixMode) -> Wave:
    """Wave of one track in a mode, at 44.1 kHz."""
    if mode == "codec" or (mode == "split" and TRACKS[row] == "instrumental"):
        return dsp.resample(stems.codec[row], CODEC_RATE, SONG_RATE)
    wave: Wave = stems.upsampled[row]
    return wave


def _sum(waves: NDArray[np.float32] | list[Wave], output: Output) -> Wave:
    """Vocal + instrumental, each with its gain."""
    vocal, instrumental = _gains(output)
    total: Wave = waves[0] * vocal
    total += waves[1] if instrumental == 1 else waves[1] * instrumental
    return total


def _gains(output: Output) -> tuple[np.float32, np.float32]:
    """Linear gains of the vocal and the instrumental."""
    return np.float32(10 ** (output.vocal_gain / 20)), np.float32(10 ** (output.inst_gain / 20))


# --- level --------------------------------------------------------------------------------------------


def _finish(waves: list[Wave], output: Output, channels: int) -> str:
    """Change a mix of some channels, and the stems after it, in place by one gain curve → a notice."""
    target = output.target_loudness
    mix = waves[:channels]
    loudness = None
    if target is not None and mix[0].size:
        loudness = integrated_loudness(mix, SONG_RATE)
    if target is None or loudness is None:
        _held_below(waves, output)
        return ""
    _fade(waves, output.fade)
    level = limiter.highest_level([true_peak_level(wave) for wave in waves])
    factor = np.float32(10 ** (_loudness_gain(mix, level, loudness, target) / 20))
    for wave in (*waves, level):
        wave *= factor
    if limiter.peak(level) > TRUE_PEAK:
        limiter.limit(waves, SONG_RATE, TRUE_PEAK, level)
        highest = max(limiter.peak(true_peak_level(wave)) for wave in waves)
        for wave in waves:  # as the gain moves, peaks between samples may pass by some thousandths of a dB
            wave *= np.float32(min(1.0, TRUE_PEAK / highest))
    return _loudness_notice(integrated_loudness(mix, SONG_RATE), target)


def _loudness_gain(mix: list[Wave], level: Wave, loudness: float, target: float) -> float:
    """Gain in dB before the limiter that brings a mix of some loudness to a target in LUFS after it.

    At most so much that the limiter reduces the peaks of `level` by MAX_LIMITING_DB.
    """
    highest = limiter.peak(level)
    most = decibels(TRUE_PEAK) + MAX_LIMITING_DB - decibels(highest)
    gain = min(target - loudness, most)
    for _ in range(LOUDNESS_PASSES):
        factor = np.float32(10 ** (gain / 20))
        if gain == most or highest * factor <= TRUE_PEAK:
            break
        limited = [wave * factor for wave in mix]
        limiter.limit(limited, SONG_RATE, TRUE_PEAK, level * factor)
        after = integrated_loudness(limited, SONG_RATE)
        if after is None or abs(target - after) < LOUDNESS_TOLERANCE:
            break
        gain = min(gain + target - after, most)
    return gain


def _loudness_notice(loudness: float | None, target: float) -> str:
    """A sentence about a mix that is further than SHORT_OF_TARGET below its target; else nothing."""
    if loudness is None or target - loudness < SHORT_OF_TARGET:
        return ""
    return (
        f"the mix has {loudness:.1f} LUFS instead of {target:g}: more would take more than "
        f"{MAX_LIMITING_DB:g} dB off its peaks"
    )


def _held_below(waves: list[Wave], output: Output) -> list[Wave]:
    """Waves faded and limited, or scaled to the ceiling, in place by one gain curve."""
    _fade(waves, output.fade)
    if not output.rescale:
        limiter.limit(waves, SONG_RATE)
        return waves
    highest = max(limiter.peak(wave) for wave in waves)
    for wave in waves:
        wave *= np.float32(limiter.CEILING / highest if highest else 1)
    return waves


def _fade(waves: Sequence[Wave], milliseconds: float) -> None:
    """Fade both ends of waves [S] in place, with half a cosine of so many ms, at most half a wave each."""
    samples = min(round(milliseconds * SONG_RATE / 1000), len(waves[0]) // 2)
    rising = (0.5 - 0.5 * np.cos(np.pi * (np.arange(samples) + 0.5) / max(1, samples))).astype(np.float32)
    for wave in waves:
        wave[:samples] *= rising
        wave[len(wave) - samples :] *= rising[::-1]
