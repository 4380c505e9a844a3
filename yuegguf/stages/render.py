"""Codes to stems: decoding with the codec and the upsamplers, window by window.

:func:`render` decodes codes [2, 8, T] (vocal, instrumental); `yuegguf.stages.mastering` mixes the stems.
Reads and writes no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.dsp import Wave
from yuegguf.codec.protocol import CODEBOOKS, CODEC_HOP, SONG_HOP, AudioCodec, Track
from yuegguf.errors import CodecError, RequestError
from yuegguf.progress import Event, Progress, silent

TRACKS: tuple[Track, Track] = ("vocal", "instrumental")
"""Order of the tracks in codes and stems."""
CODEC_CONTEXT = 11
"""Frames of context on each side of a window for the codec; its receptive field is 10."""
UPSAMPLER_CONTEXT = 30
"""Frames of context on each side of a window for an upsampler; its receptive field is 29."""
WINDOW_FRAMES = 500
"""Frames decoded at a time (10 s); the context adds 4 and 12 %."""


@dataclass(frozen=True)
class Stems:
    """Decoded waves of both tracks (vocal, instrumental), without gain or limiter."""

    codec: NDArray[np.float32]
    """[2, 320·T] at 16 kHz."""
    upsampled: NDArray[np.float32]
    """[2, 882·T] at 44.1 kHz."""


def silent_stems(frames: int) -> Stems:
    """Stems of so many frames without a sound."""
    return Stems(*(np.zeros((len(TRACKS), hop * frames), np.float32) for hop in (CODEC_HOP, SONG_HOP)))


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
    stems = silent_stems(frames)
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


Renderer = Callable[[NDArray[np.int16], AudioCodec, Progress, int | None], Stems]
"""Takes codes [2, 8, T], the codec, a progress callback and the track that stays silent, as `render`."""


def decode_codebook0(
    codes: NDArray[np.int16],
    codec: AudioCodec,
    start: int = 0,
    stop: int | None = None,
) -> NDArray[np.float32]:
    """Codebook 0 of both tracks [2, T] → frames `start` … `stop` of their waves at 16 kHz [2, 320·frames].

    Works in windows as `render` does: any part of the song has the samples of decoding it whole. Errors of
    the codec pass through.
    """
    stop = codes.shape[1] if stop is None else stop
    waves = np.empty((len(TRACKS), CODEC_HOP * (stop - start)), np.float32)
    for first in range(start, stop, WINDOW_FRAMES):
        last = min(first + WINDOW_FRAMES, stop)
        span = slice(CODEC_HOP * (first - start), CODEC_HOP * (last - start))
        for row in range(len(TRACKS)):
            track_codes = codes[row : row + 1]
            waves[row, span] = _decode_window(track_codes, first, last, _codec_decoder(codec))
    return waves


def render_track(
    codes: NDArray[np.int16],
    track: Track | None,
    codec: AudioCodec,
    *,
    progress: Progress = silent,
    window: int = WINDOW_FRAMES,
) -> Wave:
    """Codes [8, T] of one track → its wave, without limiter, as `render` decodes it.

    By the upsampler of `track` at 44.1 kHz [882·T]; None = by the codec alone at 16 kHz [320·T]. Errors of
    the codec pass through.
    """
    frames = codes.shape[1]
    decoder = _codec_decoder(codec) if track is None else _upsampler(codec, track)
    wave = np.empty(decoder.hop * frames, np.float32)
    for start in range(0, frames, window):
        stop = min(start + window, frames)
        wave[decoder.hop * start : decoder.hop * stop] = _decode_window(codes, start, stop, decoder)
        progress(Event("master", stop, frames))
    return wave


def _decode_window(codes: NDArray[np.int16], start: int, stop: int, decoder: _Decoder) -> Wave:
    """Decode frames start … stop with their context; returns only their own samples."""
    first = max(0, start - decoder.context)
    window = codes[:, first : stop + decoder.context]
    wave = decoder.decode(window)
    if wave.shape != (window.shape[1] * decoder.hop,):
        raise CodecError(f"{window.shape[1]} frames became an array of shape {wave.shape}")
    return wave[(start - first) * decoder.hop : (stop - first) * decoder.hop]
