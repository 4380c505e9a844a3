"""Cue points of WAV files: where the sections of a song begin."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yuegguf.files.atomic import storage_errors

MAX_RIFF_BYTES = 2**32 - 1
"""Maximum bytes of a RIFF file."""


@dataclass(frozen=True)
class CuePoint:
    """A section's first sample at 44.1 kHz, and its name."""

    sample: int
    label: str


def add_cues(path: Path, marks: Sequence[CuePoint]) -> None:
    """Append `cue ` and `adtl` chunks to a WAV file, which players and editors show as markers.

    Format: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0". A file that
    would exceed MAX_RIFF_BYTES is left unchanged. Raises StorageError.
    """
    chunks = cue_chunks(marks)
    with storage_errors(path), path.open("r+b") as file:
        end = file.seek(0, 2)
        pad = b"\0" * (end % 2)
        size = end + len(pad) + len(chunks) - 8
        if not marks or size > MAX_RIFF_BYTES:
            return
        file.write(pad + chunks)
        file.seek(4)
        file.write(struct.pack("<I", size))


def cue_chunks(marks: Sequence[CuePoint]) -> bytes:
    """Bytes of the two chunks; cue points are numbered from 1."""
    points = b"".join(
        struct.pack("<II4sIII", number, mark.sample, b"data", 0, 0, mark.sample)
        for number, mark in enumerate(marks, 1)
    )
    labels = b"".join(
        _chunk(b"labl", struct.pack("<I", number) + mark.label.encode() + b"\0")
        for number, mark in enumerate(marks, 1)
    )
    return _chunk(b"cue ", struct.pack("<I", len(marks)) + points) + _chunk(b"LIST", b"adtl" + labels)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
