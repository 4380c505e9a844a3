"""Arrays in .npy and .npz files: written whole, read without ever unpickling, checked."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile
from yuegguf.files import npy
from yuegguf.files.atomic import replacing
from yuegguf.files.kinds import explain_damage
from yuegguf.files.reading import open_plain_file

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""Errors of zipfile for damage: a wrong checksum, a broken stream, an unknown compression or encryption."""

MAX_SECTIONS = 2**16
"""Most sections of a song that is read."""
MAX_FRAMES = 2**24
"""Most frames of a song that is read: four days of music."""
MAX_ARRAY_BYTES = 2**31
"""Most bytes of one unpacked array: a recording of three hours, far above any array of a song."""


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write one .npy. Raises StorageError."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as one compressed .npz. Raises StorageError."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_array(file: Path) -> NDArray[Any]:
    """Read an .npy of numbers without ever unpickling. Raises DamagedFile."""
    try:
        with open_plain_file(file) as handle:
            return npy.read_npy(handle, file.stat().st_size)
    except (ValueError, OSError, MemoryError) as error:
        damage = f"{file} is not a readable .npy file ({_reason(error)})"
        hint = "delete it, and make or copy it again"
        raise explain_damage(file, DamagedFile(damage, hint), ("npy",)) from error


def load_arrays(
    file: Path, names: Sequence[str], most: int = MAX_ARRAY_BYTES, *, optional: Sequence[str] = ()
) -> dict[str, NDArray[Any]]:
    """Read named arrays of an .npz without ever unpickling, each of at most `most` bytes.

    Those of `optional` names may be missing. Raises DamagedFile.
    """
    try:
        with open_plain_file(file) as handle, zipfile.ZipFile(handle) as archive:
            there = {*archive.namelist()}
            found = [*names, *(name for name in optional if f"{name}.npy" in there)]
            return {name: _member(archive, f"{name}.npy", most) for name in found}
    except (ValueError, OSError, EOFError, KeyError, MemoryError, *ZIP_ERRORS) as error:
        hint = "delete it and resume to make it again"
        damaged = DamagedFile(f"{file} is damaged ({_reason(error)})", hint)
        raise explain_damage(file, damaged, ("zip",)) from error


def array_bytes(count: int) -> int:
    """Most bytes of an array of `count` numbers, for `load_arrays`."""
    return min(MAX_ARRAY_BYTES, 8 * count + 2 * npy.MAX_HEADER_BYTES)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> NDArray[Any]:
    """An array of an .npz, unpacked in blocks. Raises ValueError and ZIP_ERRORS."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that we never use")
    if info.file_size > most:
        raise ValueError(f"{name} announces {info.file_size} bytes, at most {most} are read")
    with archive.open(info) as file:
        return npy.read_npy(file, info.file_size)


def _reason(error: BaseException) -> str:
    """Reason of an error in at most a line."""
    return "it is too large for the memory" if isinstance(error, MemoryError) else f"{error}"[:200]


def check_codes(codes: NDArray[Any], shape: Sequence[int | None], name: str) -> None:
    """Refuse an array that cannot be codec codes of this shape. Raises DamagedFile."""
    fits = codes.ndim == len(shape) and all(
        n is None or n == m for n, m in zip(shape, codes.shape, strict=True)
    )
    if not fits or not np.issubdtype(codes.dtype, np.integer):
        raise DamagedFile(
            f"{name} does not hold codes of the expected shape ({codes.dtype}{list(codes.shape)})"
        )
    if codes.size and (codes.min() < 0 or codes.max() >= 1024):
        raise DamagedFile(f"{name} holds codes outside 0-1023")


def check_frames(frames: NDArray[Any], total: int | None, name: str) -> None:
    """Refuse an array that is not frames of sections adding up to `total`, if it is given.

    Raises DamagedFile.
    """
    listed = frames.ndim == 1 and len(frames) <= MAX_SECTIONS and np.issubdtype(frames.dtype, np.integer)
    counts = frames.tolist() if listed else [-1]
    if min(counts, default=0) < 0 or sum(counts) > MAX_FRAMES or total not in (None, sum(counts)):
        raise DamagedFile(f"{name} is damaged: its sections do not add up")
