"""Peaks of a song for web players: JSON as BBC's audiowaveform writes it, with sections and lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.recording import read_audio
from yuegguf.exchange.finished_song import TimedSong
from yuegguf.files import typed_json
from yuegguf.files.atomic import replacing

PEAKS_PER_SECOND = 50
"""Pairs of peaks of a second: one of each frame."""
BITS = 8


def write_peaks(song: TimedSong, out: Path) -> None:
    """Write `out`. Raises RequestError for an audio file that cannot be read, StorageError."""
    facts = {
        "seconds": song.song.seconds,
        "tracks": {name: track_peaks(*read_audio(file)) for name, file in song.tracks.items()},
        "sections": [
            {"start": section.start, "seconds": section.seconds, "label": section.label}
            for section in song.song.sections
        ],
        "lines": [{"start": start, "text": text} for start, text in song.lines],
    }
    with replacing(out) as beside:
        beside.write_bytes(typed_json.encode(facts))


def track_peaks(wave: NDArray[np.float32], rate: int) -> dict[str, Any]:
    """Lowest and highest sample of every 20 ms of a wave [S], alternating, in 8 bits."""
    size = rate // PEAKS_PER_SECOND
    blocks = np.pad(wave, (0, -len(wave) % size)).reshape(-1, size)
    pairs = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1)
    steps = np.clip(np.rint(pairs * 127), -128, 127).astype(int)
    return {
        "version": 2,
        "channels": 1,
        "sample_rate": rate,
        "samples_per_pixel": size,
        "bits": BITS,
        "length": len(blocks),
        "data": steps.reshape(-1).tolist(),
    }
