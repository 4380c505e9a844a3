"""Peaks of an audio file, so that a page can draw a waveform without decoding it."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from yuegguf.audio.recording import read_audio

DIGITS = 4
CACHED = 64
"""Files whose peaks are kept."""


def peaks_of(file: Path, points: int) -> dict[str, Any]:
    """Length in seconds, and the loudest sample, 0 to 1, of each of `points` equal parts. Raises YueError."""
    status = file.stat()
    return _peaks(file, points, status.st_size, status.st_mtime_ns)


@lru_cache(CACHED)
def _peaks(file: Path, points: int, _size: int, _changed: int) -> dict[str, Any]:
    wave, rate = read_audio(file)
    loud = np.abs(wave)
    edges = np.linspace(0, len(loud), points + 1).astype(int)
    found = [float(loud[a:b].max(initial=0.0)) for a, b in pairwise(edges)]
    return {"seconds": len(loud) / rate, "peaks": [round(min(value, 1.0), DIGITS) for value in found]}
