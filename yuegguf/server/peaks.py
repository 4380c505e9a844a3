"""Peaks of an audio file, so that a page can draw a waveform without decoding it."""

from __future__ import annotations

import threading
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from yuegguf.audio.growing_wav import samples_in
from yuegguf.audio.recording import read_audio

DIGITS = 4
CACHED = 64
"""Files whose peaks are kept."""
READING = threading.Lock()
"""Held while a file is read, so that one wave at a time is in memory."""


def peaks_of(file: Path, points: int) -> dict[str, Any]:
    """Length in seconds, and the loudest sample, 0 to 1, of each of `points` equal parts. Raises YueError.

    A preview that holds no samples yet has a length of 0.
    """
    status = file.stat()
    if file.name == "preview.wav" and not samples_in(file):
        return {"seconds": 0.0, "peaks": [0.0] * points}
    with READING:
        return _peaks(file, points, status.st_size, status.st_mtime_ns)


@lru_cache(CACHED)
def _peaks(file: Path, points: int, _size: int, _changed: int) -> dict[str, Any]:
    wave, rate = read_audio(file)
    edges = np.linspace(0, len(wave), points + 1).astype(int)
    parts = [wave[a:b] for a, b in pairwise(edges)]
    found = [float(max(part.max(initial=0.0), -part.min(initial=0.0))) for part in parts]
    return {"seconds": len(wave) / rate, "peaks": [round(min(value, 1.0), DIGITS) for value in found]}
