"""Codes to audio: decoding window by window, then the mix and the stems.

:func:`render` decodes codes [2, 8, T] (vocal, instrumental) with the codec and the upsamplers;
:func:`master` mixes and limits them. Reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio import dsp
from yuegguf.audio.dsp import Wave
from yuegguf.codec.protocol import CODEBOOKS, CODEC_HOP, CODEC_RATE, SONG_HOP, SONG_RATE, AudioCodec, Track
from yuegguf.errors import CodecError, RequestError
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.song_request import MIX_MODES, MixMode

TRACKS: tuple[Track, Track] = ("vocal", "instrumental")
"""Order of the tracks in codes and stems."""
CODEC_CONTEXT = 11
"""Frames of context on each side of a window for the codec; its receptive field is 10."""
UPSAMPLER_CONTEXT = 30
"""Frames of context on each side of a window for an upsampler; its receptive field is 29."""
WINDOW_FRAMES = 500
"""Frames decoded at a time (10 s); the context adds 4 and 12 %."""


@dataclass(frozen=True)
class MixOptions:
    """Options of the mix of the two tracks."""

    mode: MixMode = "hybrid"
    """hybrid: below 5.5 kHz the codec, above it Vocos, joined flat. upstream: the same with the official
    crossover. vocos and codec: one of them alone. split: codec backing under a Vocos vocal."""
    vocal_gain_db: float = 0.0
    """Gain of the vocal in the mix; its stem keeps its own level."""
    instrumental_gain_db: float = 0.0
    """Gain of the instrumental in the mix; its stem keeps its own level."""
    rescale: bool = False
    """Scale loud waves to a peak of 0.99 instead of limiting them (`--rescale` of `infer.py`)."""

    def __post_init__(self) -> None:
        if self.mode not in MIX_MODES:
            raise RequestError(f"there is no mix called {self.mode!r}", f"use one of {', '.join(MIX_MODES)}")
        if not (isfinite(self.vocal_gain_db) and isfinite(self.instrumental_gain_db)):
            raise RequestError("a gain is not a number", "give gains in dB, for example -3")


@dataclass(frozen=True)
class Stems:
    """Decoded waves of both tracks (vocal, instrumental), without gain or limiter."""

    codec: NDArray[np.float32]
    """[2, 320·T] at 16 kHz."""
    upsampled: NDArray[np.float32]
    """[2, 882·T] at 44.1 kHz."""


@dataclass(frozen=True)
class RecordedTrack:
    """A recorded stem that takes the place of a decoded track."""

    track: int
    """0 = vocal, 1 = instrumental."""
    wave: Wave | None
    """[882·T] at 44.1 kHz; None = silence."""


@dataclass(frozen=True)
class Master:
    """The finished waves [882·T] at 44.1 kHz."""

    mix: Wave
    vocals: Wave
    instrumental: Wave


class _Decoder(NamedTuple):
    """A decoding function with its context in frames and its samples per frame."""

    decode: Callable[[NDArray[np.int16]], Wave]
    context: int
    hop: int


def _codec_decoder(codec: AudioCodec) -> _Decoder:
    return _Decoder(codec.decode, CODEC_CONTEXT, CODEC_HOP)


def _upsampler(codec: AudioCodec, track: Track) -> _Decoder:
    return _Decoder(partial(codec.upsample, track=track), UPSAMPLER_CONTEXT, SONG_HOP)


def render(
    codes: NDArray[np.int16],
    codec: AudioCodec,
    progress: Progress = silent,
    window: int = WINDOW_FRAMES,
    without: int | None = None,
) -> Stems:
    """Codes [2, 8, T] (vocal, instrumental) → stems at 16 and 44.1 kHz; the track `without` is silent.

    Works in windows of `window` frames with enough context on both sides that the result equals
    decoding the whole song at once; only the returned arrays grow with it. One "master" event a window.

    Raises RequestError when the codes have another shape; errors of the codec or `progress` pass through.
    """
    if codes.ndim != 3 or codes.shape[:2] != (len(TRACKS), CODEBOOKS):
        raise RequestError(f"codes of shape {codes.shape} cannot be rendered", "they must be [2, 8, frames]")
    frames = codes.shape[2]
    stems = Stems(
        np.zeros((len(TRACKS), CODEC_HOP * frames), np.float32),
        np.zeros((len(TRACKS), SONG_HOP * frames), np.float32),
    )
    decoded = [(row, track) for row, track in enumerate(TRACKS) if row != without]
    for start in range(0, frames, window):
        stop = min(start + window, frames)
        for row, track in decoded:
            span = slice(CODEC_HOP * start, CODEC_HOP * stop)
            stems.codec[row, span] = _decode_window(codes[row], start, stop, _codec_decoder(codec))
            span = slice(SONG_HOP * start, SONG_HOP * stop)
            stems.upsampled[row, span] = _decode_window(codes[row], start, stop, _upsampler(codec, track))
        progress(Event("master", stop, frames))
    return stems


def decode_codebook0(
    codes: NDArray[np.int16],
    codec: AudioCodec,
    start: int = 0,
    stop: int | None = None,
    window: int = WINDOW_FRAMES,
) -> NDArray[np.float32]:
    """Codebook 0 of both tracks [2, T] → frames `start` … `stop` of their waves at 16 kHz [2, 320·frames].

    Works in windows as `render` does: any part of the song has the samples of decoding it whole. Errors of
    the codec pass through.
    """
    stop = codes.shape[1] if stop is None else stop
    waves = np.empty((len(TRACKS), CODEC_HOP * (stop - start)), np.float32)
    for first in range(start, stop, window):
        last = min(first + window, stop)
        span = slice(CODEC_HOP * (first - start), CODEC_HOP * (last - start))
        for row in range(len(TRACKS)):
            track_codes = codes[row : row + 1]
            waves[row, span] = _decode_window(track_codes, first, last, _codec_decoder(codec))
    return waves


def render_track(
    codes: NDArray[np.int16],
    track: Track,
    codec: AudioCodec,
    options: MixOptions | None = None,
    *,
    progress: Progress = silent,
    window: int = WINDOW_FRAMES,
) -> Wave:
    """Codes [8, T] of one track → its finished wave [882·T] at 44.1 kHz.

    Decoded by the track's upsampler, or by the codec alone in mode "codec". Errors of the codec pass through.
    """
    options = options or MixOptions()
    frames, by_codec = codes.shape[1], options.mode == "codec"
    decoder = _codec_decoder(codec) if by_codec else _upsampler(codec, track)
    wave = np.empty(decoder.hop * frames, np.float32)
    for start in range(0, frames, window):
        stop = min(start + window, frames)
        wave[decoder.hop * start : decoder.hop * stop] = _decode_window(codes, start, stop, decoder)
        progress(Event("master", stop, frames))
    return _limiter(options)(dsp.resample(wave, CODEC_RATE, SONG_RATE) if by_codec else wave)


def _decode_window(codes: NDArray[np.int16], start: int, stop: int, decoder: _Decoder) -> Wave:
    """Decode frames start … stop with their context; returns only their own samples."""
    first = max(0, start - decoder.context)
    window = codes[:, first : stop + decoder.context]
    wave = decoder.decode(window)
    if wave.shape != (window.shape[1] * decoder.hop,):
        raise CodecError(f"{window.shape[1]} frames became an array of shape {wave.shape}")
    return wave[(start - first) * decoder.hop : (stop - first) * decoder.hop]


def master(stems: Stems, options: MixOptions | None = None, recording: RecordedTrack | None = None) -> Master:
    """Stems → the mix and both tracks, each [882·T] at 44.1 kHz, mono, no sample above ±0.99.

    Only the mode "upstream" may exceed that: the official file is not limited (`infer.py`). There the
    stems are clamped as upstream's are; every other mode limits with a smooth gain. Tracks that need no
    limiting are returned without a copy. A `recording`, whose track of the stems is silent, goes into the mix
    unchanged.
    """
    options = options or MixOptions()
    limiter = _limiter(options)
    tracks = [_track(stems, row, options.mode) for row in range(len(TRACKS))]
    recorded = recording.wave if recording else None
    if recording and recorded is not None:
        tracks[recording.track] = recorded
        mix = limiter(_mix(stems, options) + np.float32(_gains(options)[recording.track]) * recorded)
    elif options.mode == "upstream":
        mix = _upstream_mix(stems, options)
    else:
        mix = limiter(_mix(stems, options))
    vocals, instrumental = map(limiter, tracks)
    return Master(mix, vocals, instrumental)


def _mix(stems: Stems, options: MixOptions) -> Wave:
    if options.mode == "hybrid":
        codec, song = _sum(stems.codec, options), _sum(stems.upsampled, options)
        return dsp.mix_hybrid(codec, song, CODEC_RATE, SONG_RATE)
    if options.mode == "codec":  # one resampling: it is linear
        return dsp.resample(_sum(stems.codec, options), CODEC_RATE, SONG_RATE)
    return _sum([_track(stems, row, options.mode) for row in range(len(TRACKS))], options)


def _upstream_mix(stems: Stems, options: MixOptions) -> Wave:
    """Steps 1 to 3 of the tail of `infer.py`: the 16 kHz stems are always clamped, `rescale` or not."""
    codec = _sum([dsp.clamp(wave) for wave in stems.codec], options)
    song = _limiter(options)(_sum(stems.upsampled, options))
    return dsp.mix_upstream(codec, song, CODEC_RATE, SONG_RATE)


def _track(stems: Stems, row: int, mode: MixMode) -> Wave:
    """Wave of one track in a mode, at 44.1 kHz."""
    if mode == "codec" or (mode == "split" and TRACKS[row] == "instrumental"):
        return dsp.resample(stems.codec[row], CODEC_RATE, SONG_RATE)
    wave: Wave = stems.upsampled[row]
    return wave


def _sum(waves: NDArray[np.float32] | list[Wave], options: MixOptions) -> Wave:
    """Vocal + instrumental, each with its gain."""
    vocal, instrumental = _gains(options)
    total: Wave = waves[0] * np.float32(vocal)
    total += waves[1] if instrumental == 1 else waves[1] * np.float32(instrumental)
    return total


def _gains(options: MixOptions) -> tuple[float, float]:
    """Linear gains of the vocal and the instrumental."""
    return 10 ** (options.vocal_gain_db / 20), 10 ** (options.instrumental_gain_db / 20)


def _limiter(options: MixOptions) -> Callable[[Wave], Wave]:
    if options.rescale:
        return dsp.rescale
    if options.mode == "upstream":
        return dsp.clamp
    return lambda wave: dsp.limit(wave, SONG_RATE)
