"""Where the sections of a song lie, as other programs read it: cue chunks, Audacity labels, LRC."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yuegguf.codec.base import FRAME_RATE, SONG_HOP
from yuegguf.files import replacing, storage_errors
from yuegguf.fit import syllables
from yuegguf.request import SungSection

TEXTS = ("markers.txt", "lyrics.lrc")
"""What `write` writes."""
LARGEST = 2**32 - 1
"""Bytes that a RIFF file can count."""


@dataclass(frozen=True)
class Mark:
    """A section's first sample at 44.1 kHz, and its name."""

    sample: int
    label: str


def marks_of(sections: Sequence[SungSection]) -> list[Mark]:
    """A mark per section; sections begin on whole frames."""
    return [Mark(round(section.start * FRAME_RATE) * SONG_HOP, section.label) for section in sections]


def add_cues(path: Path, marks: Sequence[Mark]) -> None:
    """Append `cue ` and `adtl` chunks to a WAV file, which players and editors show as markers.

    Format: Microsoft, "Multimedia Programming Interface and Data Specifications 1.0". A file that cannot
    count them any more is left as it is. Raises StorageError.
    """
    chunks = cue_chunks(marks)
    with storage_errors(path), path.open("r+b") as file:
        end = file.seek(0, 2)
        pad = b"\0" * (end % 2)
        size = end + len(pad) + len(chunks) - 8
        if not marks or size > LARGEST:
            return
        file.write(pad + chunks)
        file.seek(4)
        file.write(struct.pack("<I", size))


def cue_chunks(marks: Sequence[Mark]) -> bytes:
    """The two chunks, numbered from 1."""
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


def audacity(sections: Sequence[SungSection]) -> str:
    """Audacity labels: start, end, name, tab-separated."""
    return "".join(f"{s.start:.6f}\t{s.start + s.seconds:.6f}\t{s.label}\n" for s in sections)


def lrc(sections: Sequence[SungSection], bodies: Sequence[str], title: str) -> str:
    """The lyrics with times: a section's label at its exact start, its lines spread over its seconds.

    YuE does not say when it sings a line, so each gets time for its syllables. `bodies` are the sections'
    words. What `encode --jsonl` reads.
    """
    lines = [f"[ti:{' '.join(title.split())}]", "[by:yuegguf]"]
    for section, body in zip(sections, bodies, strict=False):
        lines.append(f"{_time(section.start)}[{section.label}]")
        words = [line.strip() for line in body.splitlines() if line.strip()]
        starts = _spread(words, section.start, section.seconds)
        lines += [f"{_time(start)} {line}" for start, line in zip(starts, words, strict=True)]
    return "\n".join(lines) + "\n"


def _spread(lines: Sequence[str], start: float, seconds: float) -> list[float]:
    """When each line begins; a line without syllables counts as one."""
    weights = [max(1, syllables(line)) for line in lines]
    return [start + seconds * sum(weights[:i]) / sum(weights) for i in range(len(lines))]


def _time(seconds: float) -> str:
    """Minutes, seconds and hundredths, downwards, so that no line is behind its section."""
    hundredths = int(round(seconds * 1000) // 10)
    return f"[{hundredths // 6000:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}]"


def write(folder: Path, sections: Sequence[SungSection], bodies: Sequence[str], title: str) -> None:
    """Write markers.txt and lyrics.lrc into a song folder. Raises StorageError."""
    texts = (audacity(sections), lrc(sections, bodies, title))
    for name, text in zip(TEXTS, texts, strict=True):
        with replacing(folder / name) as beside:
            beside.write_text(text, encoding="utf-8")
