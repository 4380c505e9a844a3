"""A track that is given: its codes, and the recording that is heard instead of them."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.recording import open_recording
from yuegguf.codec.protocol import CODEC_RATE, FRAME_RATE, SONG_HOP, SONG_RATE, AudioCodec
from yuegguf.errors import RequestError
from yuegguf.progress import Progress, silent
from yuegguf.request.song_request import GuideTrack
from yuegguf.song.encoding import EncodingMemory, audio_source, encode_source
from yuegguf.stages import render

SILENCE_SECONDS, EDGE_FRAMES = 4, 50
"""Of silence that is encoded, and frames at both ends that hear where it begins and ends."""

Codes = NDArray[np.int16]
Wave = NDArray[np.float32]


def silence_codes(codec: AudioCodec) -> Codes:
    """What the codec makes of silence [8]: of each codebook the most frequent code."""
    codes = codec.encode(np.zeros(SILENCE_SECONDS * CODEC_RATE, np.float32))[:, EDGE_FRAMES:-EDGE_FRAMES]
    return np.array([np.bincount(book).argmax() for book in codes], np.int16)


def recorded_frames(wanted: GuideTrack) -> int:
    """Whole frames of a recording from its offset on. Raises RequestError."""
    assert wanted.file is not None
    found = open_recording(Path(wanted.file))
    frames = FRAME_RATE * found.samples // found.rate - round(FRAME_RATE * wanted.offset)
    if frames < FRAME_RATE:
        raise RequestError(
            f"{wanted.file} is {found.seconds:.2f} s long: too little is left of it for a song",
            "use a smaller --offset or a longer recording",
        )
    return frames


def encode_guide_track(
    wanted: GuideTrack, codec: AudioCodec, frames: int, room: EncodingMemory, progress: Progress = silent
) -> tuple[Codes, Wave | None]:
    """Codes [8, `frames`] of a given track, and its recording [882·frames] at 44.1 kHz, which may be silent.

    The recording is encoded whole and then cut where the memory allows, as a reference is. Raises
    RequestError, NotEnoughMemory.
    """
    if wanted.file is None:
        return np.repeat(silence_codes(codec)[:, None], frames, 1), None
    recording = open_recording(Path(wanted.file))
    first = round(FRAME_RATE * wanted.offset)
    codes = encode_source(audio_source(recording), codec, room, slice(first, first + frames), progress)
    heard = recording.wave(SONG_RATE, SONG_HOP * first, SONG_HOP * (first + frames))
    # rounding at a recording's end may leave a frame or a few samples too few
    codes = np.pad(codes, ((0, 0), (0, max(0, frames - codes.shape[1]))), "edge")
    heard = np.pad(heard, (0, max(0, SONG_HOP * frames - len(heard))))
    return codes, heard


def wordless_lyrics(seconds: float, most: float) -> str:
    """Lyrics without words for a recording of that length, in sections of at most `most` seconds."""
    return "[verse]\n\n" * ceil(seconds / most)


def track_index(track: GuideTrack) -> int:
    """Its row among codes and stems."""
    return render.TRACKS.index(track.track)
