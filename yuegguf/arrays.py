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
from yuegguf.files import replacing

UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What zipfile raises for damage: a wrong sum, a broken stream, a method or an encryption that it lacks."""


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write one .npy. Raises StorageError."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays as one compressed .npz. Raises StorageError."""
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_array(file: Path) -> NDArray[Any]:
    """Read an .npy without ever unpickling. Raises DamagedFile."""
    try:
        with file.open("rb") as handle:  # np.load leaves a file that it cannot read open
            array = np.load(handle, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DamagedFile(
            f"{file} is not a readable .npy file", "delete it, and make or copy it again"
        ) from error
    if not isinstance(array, np.ndarray):
        raise DamagedFile(f"{file} holds several arrays, one was expected")
    return array


def load_arrays(file: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read named arrays of an .npz without ever unpickling. Raises DamagedFile."""
    try:
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (ValueError, OSError, EOFError, KeyError, *UNREADABLE) as error:
        raise DamagedFile(f"{file} is damaged ({error})", "delete it and resume to make it again") from error


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
