"""The append-only log of the codes that stage 1 samples: text, one code a line, flushed as it grows.

    yuegguf tokens 2
    section 0 2f0c1a77
    813 9c0e5d12
    27 51a3b9f0
    end 0d6a77c4
    section 1 7be1f003
    700 c81d2e55
    again 0 13a90be2

Codes alternate vocal, instrumental; `end` is the model's own end of the section; `again N` discards
all but the section's first N codes, and it is sampled again. Codes, not ids, so a log outlives the
vocabulary of one file. Each line ends with the CRC-32 of everything before it, so a changed, missing or added
line is detected. A last line cut by a crash is dropped when read.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.files.atomic import flush_folder, read_limited, storage_error, storage_errors, unshare
from yuegguf.files.steady import check_steady
from yuegguf.stages.stage1_task import END_OF_AUDIO

HEADER = b"yuegguf tokens 2\n"
RESTORE_HINT = "restore it from a copy"
MAX_LOG_BYTES = 256 << 20
"""Bytes of the largest log that is read; an hour of music has some six million."""
SYNC_SECONDS = 1.0
"""Most seconds of codes that a power cut can lose; a killed process loses none."""


@dataclass
class LogContent:
    """Codes, restarts and checksum of a log."""

    sections: list[list[int]] = field(default_factory=list)
    attempts: dict[int, int] = field(default_factory=dict)
    """Section → how often it was restarted."""
    sum: int = zlib.crc32(HEADER)
    """CRC-32 of the header and of all lines without their checksums."""


class TokenLog:
    """All codes that stage 1 sampled for one song, in memory and on disk."""

    def __init__(self, path: Path, handle: int, log: LogContent) -> None:
        self._path, self._handle = path, handle
        self._sections, self._attempts, self._sum = log.sections, log.attempts, log.sum
        self._synced = time.monotonic()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create a log; truncates an incomplete last line. Raises DamagedFile, StorageError."""
        unshare(path)
        with storage_errors(path):
            fresh = not path.exists()
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            try:
                check_steady(path)  # another machine may have taken the song over before the file was opened
                log, length = parse_log(read_limited(path, MAX_LOG_BYTES, RESTORE_HINT), path.name)
                os.ftruncate(handle, length)
                os.lseek(handle, 0, os.SEEK_END)
                if not length:
                    os.write(handle, HEADER)
                if fresh:
                    flush_folder(path.parent)
            except (DamagedFile, StorageError, OSError):
                os.close(handle)
                raise
        return cls(path, handle, log)

    def codes(self, section: int) -> Sequence[int]:
        """Codes of a section; the last may be END_OF_AUDIO."""
        return self._sections[section] if 0 <= section < len(self._sections) else ()

    def append(self, section: int, code: int) -> None:
        """Append one code; it is in the file when this returns. Raises StorageError."""
        while section >= len(self._sections):
            self._write(b"section %d" % len(self._sections))
            self._sections.append([])
        self._write(b"end" if code == END_OF_AUDIO else b"%d" % code)
        self._sections[section].append(code)

    def restart(self, section: int, keep: int = 0) -> None:
        """Discard all but the first `keep` codes of the last section. Raises StorageError."""
        assert section == len(self._sections) - 1
        self._write(b"again %d" % keep)
        del self._sections[section][keep:]
        self._attempts[section] = self.attempt(section) + 1

    def attempt(self, section: int) -> int:
        """Number of restarts of a section."""
        return self._attempts.get(section, 0)

    def _write(self, entry: bytes) -> None:
        total = zlib.crc32(entry, self._sum)
        line = b"%s %08x\n" % (entry, total)
        try:  # not `storage_errors`, which takes longer than the writing
            while line:  # a full disk may take only the first bytes
                line = line[os.write(self._handle, line) :]
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._sum = total
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


def parse_log(content: bytes, name: str) -> tuple[LogContent, int]:
    """Content of a log, and how many of its bytes are complete lines.

    Raises DamagedFile naming the line when anything but an incomplete last line is wrong.
    """
    whole = content.rstrip(b"\0")  # a power cut can leave blocks of zeros
    whole = whole[: whole.rfind(b"\n") + 1]
    if not whole:
        if content.strip(b"\0") and not HEADER.startswith(content.rstrip(b"\0")):
            raise DamagedFile(f"{name} is not a token log", RESTORE_HINT)
        return LogContent(), 0
    if not whole.startswith(HEADER):
        other = whole.startswith(b"yuegguf tokens ")
        raise DamagedFile(
            f"{name} is {'of another version' if other else 'not a token log'}",
            "resume it with the yuegguf that started it" if other else RESTORE_HINT,
        )
    log = LogContent()
    for number, line in enumerate(whole[len(HEADER) :].split(b"\n")[:-1], 2):
        entry, _, checksum = line.rpartition(b" ")
        log.sum = zlib.crc32(entry, log.sum)
        if checksum != b"%08x" % log.sum or not _read_entry(entry, log):
            raise DamagedFile(
                f"{name} is damaged in line {number}",
                f"{RESTORE_HINT}, or cut it off before that line: the rest is then sampled again",
            )
    return log, len(whole)


def _read_entry(entry: bytes, log: LogContent) -> bool:
    """Add a line without its checksum; False if it is not valid at this place."""
    sections = log.sections
    if entry.startswith(b"again ") and _is_count(entry[6:]) and sections:
        last = len(sections) - 1
        log.attempts[last] = log.attempts.get(last, 0) + 1
        keep = int(entry[6:])
        in_range = keep <= len(sections[last])
        del sections[last][keep:]
        return in_range
    if entry == b"section %d" % len(sections):
        sections.append([])
        return True
    if not sections or sections[-1][-1:] == [END_OF_AUDIO]:
        return False
    if entry == b"end":
        sections[-1].append(END_OF_AUDIO)
        return True
    if _is_count(entry) and int(entry) < 1024:
        sections[-1].append(int(entry))
        return True
    return False


def _is_count(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 6
