"""The append-only log of stage 1's draws: text, one code a line, flushed as it grows.

    yuegguf tokens 1
    section 0
    813
    27
    end
    section 1
    700
    again 0

Codes alternate vocal, instrumental; `end` is the model's own end of the section; `again N` throws
all but the section's first N codes away, and it is drawn anew. Codes, not ids, so
a log outlives the vocabulary of one file. A last line cut by a crash is dropped when read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from yuegguf.errors import DamagedFile
from yuegguf.files import flush_folder, storage_errors

HEADER = b"yuegguf tokens 1\n"
END_OF_AUDIO = -1
SYNC_SECONDS = 1.0
"""Longest time that a draw may be lost to a power cut; a killed process loses none."""


@dataclass
class Drawn:
    """What a log says."""

    sections: list[list[int]] = field(default_factory=list)
    attempts: dict[int, int] = field(default_factory=dict)
    """Section → how often it was begun anew."""


class TokenLog:
    """All draws of one song, in memory and on disk."""

    def __init__(self, path: Path, handle: int, drawn: Drawn) -> None:
        self._path, self._handle = path, handle
        self._sections, self._attempts = drawn.sections, drawn.attempts
        self._synced = time.monotonic()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create a log; a torn tail is cut off. Raises DamagedFile, StorageError."""
        with storage_errors(path):
            fresh = not path.exists()
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            try:
                drawn, length = parse(path.read_bytes(), path.name)
                os.ftruncate(handle, length)
                os.lseek(handle, 0, os.SEEK_END)
                if not length:
                    os.write(handle, HEADER)
                if fresh:
                    flush_folder(path.parent)
            except (DamagedFile, OSError):
                os.close(handle)
                raise
        return cls(path, handle, drawn)

    def drawn(self, section: int) -> Sequence[int]:
        """The draws of a section; END_OF_AUDIO may be the last."""
        return self._sections[section] if section < len(self._sections) else ()

    def draw(self, section: int, code: int) -> None:
        """Append one draw; it is in the file when this returns. Raises StorageError."""
        line = b""
        while section >= len(self._sections):
            line += b"section %d\n" % len(self._sections)
            self._sections.append([])
        self._write(line + (b"end\n" if code == END_OF_AUDIO else b"%d\n" % code))
        self._sections[section].append(code)

    def redraw(self, section: int, keep: int = 0) -> None:
        """Throw away the last section's draws but its first `keep`. Raises StorageError."""
        assert section == len(self._sections) - 1
        self._write(b"again %d\n" % keep)
        del self._sections[section][keep:]
        self._attempts[section] = self.attempt(section) + 1

    def attempt(self, section: int) -> int:
        """How often a section was begun anew."""
        return self._attempts.get(section, 0)

    def _write(self, line: bytes) -> None:
        with storage_errors(self._path):
            while line:  # a disk that fills up takes a part, and refuses the rest
                line = line[os.write(self._handle, line) :]
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Force everything to the disk."""
        with storage_errors(self._path):
            os.fsync(self._handle)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Flush and close the file."""
        try:
            self.sync()
        finally:
            os.close(self._handle)


def parse(content: bytes, name: str) -> tuple[Drawn, int]:
    """A log's bytes → what was drawn, and how many bytes of it are whole lines.

    Raises DamagedFile naming the line when anything but the tail is wrong.
    """
    whole = content.rstrip(b"\0")  # a power cut can leave blocks that were never written
    whole = whole[: whole.rfind(b"\n") + 1]
    if not whole:
        if content.strip(b"\0") and not HEADER.startswith(content.rstrip(b"\0")):
            raise DamagedFile(f"{name} is not a token log")
        return Drawn(), 0
    if not whole.startswith(HEADER):
        newer = whole.startswith(b"yuegguf tokens ")
        raise DamagedFile(
            f"{name} is {'of a newer version' if newer else 'not a token log'}",
            "update yuegguf" if newer else "",
        )
    drawn = Drawn()
    for number, line in enumerate(whole[len(HEADER) :].split(b"\n")[:-1], 2):
        if not _read_line(line, drawn):
            raise DamagedFile(f"{name} is damaged in line {number}", "the song cannot be resumed from it")
    return drawn, len(whole)


def _read_line(line: bytes, drawn: Drawn) -> bool:
    sections = drawn.sections
    if line.startswith(b"again ") and line[6:].isdigit() and sections:
        last = len(sections) - 1
        drawn.attempts[last] = drawn.attempts.get(last, 0) + 1
        keep = int(line[6:])
        known = keep <= len(sections[last])
        del sections[last][keep:]
        return known
    if line == b"section %d" % len(sections):
        sections.append([])
        return True
    if not sections or sections[-1][-1:] == [END_OF_AUDIO]:
        return False
    if line == b"end":
        sections[-1].append(END_OF_AUDIO)
        return True
    if line.isdigit() and len(line) <= 4 and int(line) < 1024:
        sections[-1].append(int(line))
        return True
    return False
