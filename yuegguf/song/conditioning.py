"""Checks of a reference's codes and a guide track against the request of the song they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.recording import HIGHEST_SAMPLE
from yuegguf.codec.protocol import SONG_HOP
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.request.song_request import Reference
from yuegguf.song.voices import load_voice

TRACK_HINT = "restore it from a copy, or start the song again"
MOST_OVERSHOOT = 16
"""Times by which a resampled recording may exceed its highest sample."""


def check_reference(codes: NDArray[Any], reference: Reference, name: str) -> None:
    """Refuse codes [N] that a reference's window cannot have. Raises DamagedFile.

    A voice has all frames of its window, of one track or of two. A recording may end before its window does,
    in songs of earlier versions.
    """
    tracks = 2 if reference.vocal is not None else 1
    if reference.voice is not None:
        fits = len(codes) in (reference.frames, 2 * reference.frames)
    else:
        fits = len(codes) <= tracks * reference.frames and len(codes) % tracks == 0
    if not fits or not len(codes):
        window = f"{reference.start:g}-{reference.end:g} s"
        raise DamagedFile(
            f"{name} holds {len(codes)} codes, not those of the window {window}",
            "delete it and resume to make it again",
        )


def same_voice(name: str, reference: Reference) -> NDArray[np.int16]:
    """The codes [N] of the voice with which a song was started.

    Raises RequestError where it is gone or has another window now, DamagedFile.
    """
    voice = load_voice(name)
    if (voice.start, voice.end) != (reference.start, reference.end):
        raise RequestError(
            f"the voice {name} was saved anew after the song was started",
            "restore the song's reference.npz from a copy, or start the song again",
        )
    return voice.codes


def check_recording(wave: NDArray[Any], frames: int, name: str) -> None:
    """Refuse what is no recording [882·frames] at 44.1 kHz. Raises DamagedFile."""
    most = MOST_OVERSHOOT * HIGHEST_SAMPLE
    fits = wave.shape == (SONG_HOP * frames,) and wave.dtype == np.float32
    if not fits or not (np.abs(wave) <= most).all():
        raise DamagedFile(f"{name} does not hold a recording of {frames} frames", TRACK_HINT)
