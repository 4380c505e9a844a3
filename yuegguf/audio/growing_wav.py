"""Append-only WAV file: valid at every moment, and continued after a kill."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import StorageError
from yuegguf.files.atomic import replacing, storage_errors, unshare
from yuegguf.files.steady import check_steady

SAMPLE_BYTES = 2
"""Bytes of a sample: 16 bits, mono."""
HEAD_BYTES = 1 << 12
"""Bytes at the beginning of a file in which its header ends."""


class GrowingWav:
    """Append-only 16-bit mono WAV file; samples are written first and counted in the header afterwards.

    After a full disk or a kill between the two, and for a player at any moment, the file is valid and ends
    a little earlier.
    """

    def __init__(self, path: Path, handle: int, header: bytes, samples: int) -> None:
        self._path, self._handle, self._header = path, handle, header
        self.samples = samples
        """Number of samples in the file."""

    @classmethod
    def open(cls, path: Path, rate: int, comment: str) -> Self:
        """Open `path` to append if it has the same rate and comment, else replace it by an empty file.

        Raises StorageError.
        """
        unshare(path)
        with storage_errors(path):
            samples = _samples_of(path, rate, comment)
            if samples is None:
                with replacing(path) as beside:
                    beside.write_bytes(_header(0, rate, comment))
            handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            check_steady(path)  # another machine may have taken the song over before the file was opened
        except StorageError:
            os.close(handle)
            raise
        return cls(path, handle, _header(0, rate, comment), samples or 0)

    def read(self, start: int, stop: int) -> NDArray[np.int16]:
        """Samples `start` … `stop`, which must be in the file. Raises StorageError."""
        with storage_errors(self._path):
            os.lseek(self._handle, len(self._header) + SAMPLE_BYTES * start, os.SEEK_SET)
            data = os.read(self._handle, SAMPLE_BYTES * (stop - start))
        return np.frombuffer(data, "<i2").astype(np.int16)

    def cut(self, samples: int) -> None:
        """Truncate the file to `samples`. Raises StorageError."""
        if samples >= self.samples:
            return
        with storage_errors(self._path):
            self._count(samples)  # before truncating, or the header would count missing samples
            os.ftruncate(self._handle, len(self._header) + SAMPLE_BYTES * samples)

    def append(self, samples: NDArray[np.int16]) -> None:
        """Append samples. Raises StorageError; the file then ends where it ended before."""
        with storage_errors(self._path):
            self._write(len(self._header) + SAMPLE_BYTES * self.samples, samples.astype("<i2").tobytes())
            self._count(self.samples + len(samples))

    def close(self) -> None:
        """Close the file; it stays as it is."""
        os.close(self._handle)

    def _count(self, samples: int) -> None:
        size = SAMPLE_BYTES * samples
        riff, data = struct.pack("<I", len(self._header) - 8 + size), struct.pack("<I", size)
        self._write(0, self._header[:4] + riff + self._header[8:-4] + data)
        self.samples = samples

    def _write(self, position: int, data: bytes) -> None:
        os.lseek(self._handle, position, os.SEEK_SET)
        while data:  # a disk that fills up takes only a part
            data = data[os.write(self._handle, data) :]


def samples_in(path: Path) -> int:
    """Number of samples of a growing WAV file; 0 where there is none."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return 0
    place = head.find(b"data")
    return int.from_bytes(head[place + 4 : place + 8], "little") // SAMPLE_BYTES if place >= 0 else 0


def to_pcm(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """Wave [S] in -1 … 1 → 16-bit samples, rounded, clipped at full scale."""
    steps: NDArray[np.int16] = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
    return steps


def _header(samples: int, rate: int, comment: str) -> bytes:
    """Bytes before the samples; the last four are the samples' size."""
    form = b"fmt " + struct.pack(
        "<IHHIIHH", 16, 1, 1, rate, SAMPLE_BYTES * rate, SAMPLE_BYTES, 8 * SAMPLE_BYTES
    )
    text = comment.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    info = b"LIST" + struct.pack("<I", 12 + len(text)) + b"INFOICMT" + struct.pack("<I", len(text)) + text
    body = b"WAVE" + form + (info if comment else b"") + b"data"
    size = SAMPLE_BYTES * samples
    return b"RIFF" + struct.pack("<I", len(body) + 4 + size) + body + struct.pack("<I", size)


def _samples_of(path: Path, rate: int, comment: str) -> int | None:
    """Number of samples of a growing WAV file; None for any other or a missing file."""
    length = len(_header(0, rate, comment))
    try:
        with path.open("rb") as file:
            start, size = file.read(length), path.stat().st_size
    except FileNotFoundError:
        return None
    samples = int.from_bytes(start[-4:], "little") // SAMPLE_BYTES
    whole = length + SAMPLE_BYTES * samples <= size
    return samples if whole and start == _header(samples, rate, comment) else None
