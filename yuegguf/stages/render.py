"""Codes to audio: decode window by window, then make the mix and the stems that are written.

Codes [2, 8, T] go in (vocal, instrumental); :func:`render` gives the waves of both tracks as the codec and
as the upsamplers make them, :func:`master` what a listener gets. Knows an AudioCodec, and no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio import dsp
from yuegguf.audio.dsp import Wave
from yuegguf.codec.protocol import CODEBOOKS, CODEC_HOP, CODEC_RATE, SONG_HOP, SONG_RATE, AudioCodec, Track
from yuegguf.errors import CodecError, RequestError
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.song_request import MIX_MODES, MixMode

TRACKS: tuple[Track, Track] = ("vocal", "instrumental")
"""The order of the rows of codes and stems."""
CODEC_CONTEXT = 11
"""Frames a side that the codec sees beyond a window: a frame depends on 10."""
UPSAMPLER_CONTEXT = 30
"""Frames a side that an upsampler sees beyond a window: a frame depends on 29."""
WINDOW_FRAMES = 500
"""Frames rendered at a time (10 s): the context costs 4 and 12 % on top."""


@dataclass(frozen=True)
class MixOptions:
    """How the two tracks become one song."""

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
    """Both tracks (vocal, instrumental) as the networks made them, without gain or limiter."""

    codec: NDArray[np.float32]
    """[2, 320·T] at 16 kHz."""
    song: NDArray[np.float32]
    """[2, 882·T] at 44.1 kHz."""


@dataclass(frozen=True)
class RecordedTrack:
    """A track that is not made from codes but given."""

    row: int
    """Of codes and stems."""
    wave: Wave | None
    """[882·T] at 44.1 kHz; None = silence."""


@dataclass(frozen=True)
class Master:
    """What is written: three waves [882·T] at 44.1 kHz."""

    mix: Wave
    vocals: Wave
    instrumental: Wave


def render(
    codes: NDArray[np.int16],
    codec: AudioCodec,
    progress: Progress = silent,
    window: int = WINDOW_FRAMES,
    without: int | None = None,
) -> Stems:
    """Codes [2, 8, T] (vocal, instrumental) → stems at 16 and 44.1 kHz; silence in the row `without`.

    Works in windows of `window` frames with enough context on both sides that the result equals
    decoding the whole song at once; only the returned arrays grow with it. One "master" event a window.

    Raises RequestError when the codes have another shape; what the codec or `progress` raises passes.
    """
    if codes.ndim != 3 or codes.shape[:2] != (len(TRACKS), CODEBOOKS):
        raise RequestError(f"codes of shape {codes.shape} cannot be rendered", "they must be [2, 8, frames]")
    frames = codes.shape[2]
    stems = Stems(
        np.zeros((len(TRACKS), CODEC_HOP * frames), np.float32),
        np.zeros((len(TRACKS), SONG_HOP * frames), np.float32),
    )
    made = [(row, track) for row, track in enumerate(TRACKS) if row != without]
    for start in range(0, frames, window):
        stop = min(start + window, frames)
        for row, track in made:
            span = slice(CODEC_HOP * start, CODEC_HOP * stop)
            stems.codec[row, span] = _window(codes[row], start, stop, CODEC_CONTEXT, CODEC_HOP, codec.decode)
            upsample = partial(codec.upsample, track=track)
            span = slice(SONG_HOP * start, SONG_HOP * stop)
            stems.song[row, span] = _window(codes[row], start, stop, UPSAMPLER_CONTEXT, SONG_HOP, upsample)
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

    What stage 1 alone sounds like. In windows as in `render`: any part of the song has the samples that
    decoding all of it at once gives. What the codec raises passes.
    """
    stop = codes.shape[1] if stop is None else stop
    waves = np.empty((len(TRACKS), CODEC_HOP * (stop - start)), np.float32)
    for first in range(start, stop, window):
        last = min(first + window, stop)
        span = slice(CODEC_HOP * (first - start), CODEC_HOP * (last - start))
        for row in range(len(TRACKS)):
            one = codes[row : row + 1]
            waves[row, span] = _window(one, first, last, CODEC_CONTEXT, CODEC_HOP, codec.decode)
    return waves


def render_track(
    codes: NDArray[np.int16],
    track: Track,
    codec: AudioCodec,
    options: MixOptions | None = None,
    progress: Progress = silent,
    window: int = WINDOW_FRAMES,
) -> Wave:
    """One track's codes [8, T] → its finished wave [882·T] at 44.1 kHz.

    Made by the track's upsampler, or by the codec alone in mode "codec". Raises what the codec raises.
    """
    options = options or MixOptions()
    frames, by_codec = codes.shape[1], options.mode == "codec"
    context, hop = (CODEC_CONTEXT, CODEC_HOP) if by_codec else (UPSAMPLER_CONTEXT, SONG_HOP)
    decode = codec.decode if by_codec else partial(codec.upsample, track=track)
    wave = np.empty(hop * frames, np.float32)
    for start in range(0, frames, window):
        stop = min(start + window, frames)
        wave[hop * start : hop * stop] = _window(codes, start, stop, context, hop, decode)
        progress(Event("master", stop, frames))
    return _limiter(options)(dsp.resample(wave, CODEC_RATE, SONG_RATE) if by_codec else wave)


def _window(
    codes: NDArray[np.int16],
    start: int,
    stop: int,
    context: int,
    hop: int,
    decode: Callable[[NDArray[np.int16]], Wave],
) -> Wave:
    """Decode frames start … stop with their context; returns only their own samples."""
    first = max(0, start - context)
    part = codes[:, first : stop + context]
    wave = decode(part)
    if wave.shape != (part.shape[1] * hop,):
        raise CodecError(f"{part.shape[1]} frames became an array of shape {wave.shape}")
    return wave[(start - first) * hop : (stop - first) * hop]


def master(stems: Stems, options: MixOptions | None = None, recording: RecordedTrack | None = None) -> Master:
    """Stems → the mix and both tracks, each [882·T] at 44.1 kHz, mono, no sample above ±0.99.

    Only the mode "upstream" may exceed that: the official file is not limited (`infer.py`). There the
    stems are clamped as upstream's are; every other mode limits with a smooth gain. Tracks that need no
    limiting are returned without a copy. A `recording`, whose row of the stems is silent, goes into the mix
    as it is.
    """
    options = options or MixOptions()
    ceiling = _limiter(options)
    tracks = [_track(stems, row, options.mode) for row in range(len(TRACKS))]
    heard = recording.wave if recording else None
    if recording and heard is not None:
        tracks[recording.row] = heard
        mix = ceiling(_mix(stems, options) + np.float32(_gains(options)[recording.row]) * heard)
    elif options.mode == "upstream":
        mix = _upstream_mix(stems, options)
    else:
        mix = ceiling(_mix(stems, options))
    vocals, instrumental = map(ceiling, tracks)
    return Master(mix, vocals, instrumental)


def _mix(stems: Stems, options: MixOptions) -> Wave:
    if options.mode == "hybrid":
        codec, song = _sum(stems.codec, options), _sum(stems.song, options)
        return dsp.mix_hybrid(codec, song, CODEC_RATE, SONG_RATE)
    if options.mode == "codec":  # one resampling: it is linear
        return dsp.resample(_sum(stems.codec, options), CODEC_RATE, SONG_RATE)
    return _sum([_track(stems, row, options.mode) for row in range(len(TRACKS))], options)


def _upstream_mix(stems: Stems, options: MixOptions) -> Wave:
    """Steps 1 to 3 of the tail of `infer.py`: the 16 kHz stems are always clamped, `rescale` or not."""
    codec = _sum([dsp.clamp(wave) for wave in stems.codec], options)
    song = _limiter(options)(_sum(stems.song, options))
    return dsp.mix_upstream(codec, song, CODEC_RATE, SONG_RATE)


def _track(stems: Stems, row: int, mode: MixMode) -> Wave:
    """The wave of one track in a mode, 44.1 kHz."""
    if mode == "codec" or (mode == "split" and TRACKS[row] == "instrumental"):
        return dsp.resample(stems.codec[row], CODEC_RATE, SONG_RATE)
    wave: Wave = stems.song[row]
    return wave


def _sum(waves: NDArray[np.float32] | list[Wave], options: MixOptions) -> Wave:
    """Vocal + instrumental, each with its gain."""
    vocal, instrumental = _gains(options)
    total: Wave = waves[0] * np.float32(vocal)
    total += waves[1] if instrumental == 1 else waves[1] * np.float32(instrumental)
    return total


def _gains(options: MixOptions) -> tuple[float, float]:
    """Of the vocal and the instrumental, as factors."""
    return 10 ** (options.vocal_gain_db / 20), 10 ** (options.instrumental_gain_db / 20)


def _limiter(options: MixOptions) -> Callable[[Wave], Wave]:
    if options.rescale:
        return dsp.rescale
    if options.mode == "upstream":
        return dsp.clamp
    return lambda wave: dsp.limit(wave, SONG_RATE)
