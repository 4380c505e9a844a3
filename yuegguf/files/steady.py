"""Checks that a folder stays the same while it is worked on: neither replaced nor turned into a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.errors import StorageError

_FOLDERS: dict[Path, tuple[int, int, Path]] = {}
"""Path of each folder that this process works on → its device, inode and resolved path."""


@contextmanager
def steady(folder: Path) -> Iterator[None]:
    """Record which folder a path leads to, for `check_steady` inside the block. OSErrors pass through."""
    before, status = _FOLDERS.get(folder), folder.stat()
    _FOLDERS[folder] = status.st_dev, status.st_ino, folder.resolve()
    try:
        yield
    finally:
        if before is None:
            del _FOLDERS[folder]
        else:
            _FOLDERS[folder] = before


def check_steady(path: Path) -> None:
    """Refuse to write in a `steady` folder that was replaced, or that the path leaves by a link.

    The last part of the path may be a link, since a write replaces it. Raises StorageError.
    """
    for folder in (path, *path.parents):
        if folder in _FOLDERS:
            _check(folder, path.parent if path != folder else path, path)


def check_inside_steady(file: Path) -> None:
    """Refuse to read such a path; its last part may not be a link out of the folder. Raises StorageError."""
    for folder in file.parents:
        if folder in _FOLDERS:
            _check(folder, file, file)


def _check(folder: Path, place: Path, path: Path) -> None:
    device, number, real = _FOLDERS[folder]
    try:
        status = os.stat(folder)
        same = (status.st_dev, status.st_ino) == (device, number)
        inside = same and (os.path.realpath(place) + os.sep).startswith(f"{real}{os.sep}")
    except OSError:  # it is gone
        same = inside = False
    if not inside:
        what = f"{path} leads out of {folder}" if same else f"{folder} is no longer the folder that it was"
        raise StorageError(f"{what}, since another program changed it", "see to it before you go on")
