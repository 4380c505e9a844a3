"""A track that is given: its codes, and the recording that is heard instead of them."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio import read_audio, to_codec_wave
from yuegguf.codec.base import CODEC_RATE, FRAME_RATE, SONG_HOP, SONG_RATE, AudioCodec
from yuegguf.dsp import resample
from yuegguf.errors import RequestError
from yuegguf.request import GivenTrack

SILENT_SECONDS, EDGE = 4, 50
"""Of silence that is encoded, and frames at both ends that hear where it begins and ends."""

Codes = NDArray[np.int16]
Wave = NDArray[np.float32]


def silence(codec: AudioCodec) -> Codes:
    """What the codec makes of silence [8]: of each codebook the most frequent code."""
    codes = codec.encode(np.zeros(SILENT_SECONDS * CODEC_RATE, np.float32))[:, EDGE:-EDGE]
    return np.array([np.bincount(book).argmax() for book in codes], np.int16)


def recorded_frames(wanted: GivenTrack) -> int:
    """Whole frames of a recording from its offset on. Raises RequestError."""
    assert wanted.file is not None
    wave, rate = read_audio(Path(wanted.file))
    frames = int(FRAME_RATE * len(wave) / rate) - round(FRAME_RATE * wanted.offset)
    if frames < FRAME_RATE:
        raise RequestError(
            f"{wanted.file} is {len(wave) / rate:.2f} s long: too little is left of it for a song",
            "use a smaller --offset or a longer recording",
        )
    return frames


def given_track(wanted: GivenTrack, codec: AudioCodec, frames: int) -> tuple[Codes, Wave | None]:
    """Codes [8, `frames`] of a given track, and its recording [882·frames] at 44.1 kHz, which may be silent.

    The recording is encoded whole and then cut, as a reference is. Raises RequestError.
    """
    if wanted.file is None:
        return np.repeat(silence(codec)[:, None], frames, 1), None
    wave, rate = read_audio(Path(wanted.file))
    first = round(FRAME_RATE * wanted.offset)
    codes = codec.encode(to_codec_wave(wave, rate))[:, first : first + frames]
    heard = resample(wave.mean(axis=1, dtype=np.float32), rate, SONG_RATE)[SONG_HOP * first :]
    # rounding at a recording's end may leave a frame or a few samples too few
    codes = np.pad(codes, ((0, 0), (0, max(0, frames - codes.shape[1]))), "edge")
    heard = np.pad(heard, (0, max(0, SONG_HOP * frames - len(heard))))
    return codes, heard[: SONG_HOP * frames]


def sections_for(seconds: float, most: float) -> str:
    """Lyrics without words for a recording of that length, in sections of at most `most` seconds."""
    return "[verse]\n\n" * ceil(seconds / most)
