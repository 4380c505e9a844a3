"""Checks that a folder stays this process's own: not replaced, no link, not taken over by another machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.errors import StorageError

_FOLDERS: dict[Path, tuple[int, int, Path]] = {}
"""Path of each folder that this process works on → its device, inode and resolved path."""
_FENCES: dict[Path, Callable[[], None]] = {}
"""Path of each folder that this process holds by a lease → the function that raises once it is lost."""


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


@contextmanager
def fenced(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` in every `check_steady` of a path in a folder inside the block; it raises StorageError."""
    before = _FENCES.get(folder)
    _FENCES[folder] = check
    try:
        yield
    finally:
        if before is None:
            del _FENCES[folder]
        else:
            _FENCES[folder] = before


def check_steady(path: Path) -> None:
    """Refuse to write in a `steady` folder that was replaced, or that the path leaves by a link.

    The last part of the path may be a link, since a write replaces it. Raises StorageError, also in a
    `fenced` folder that is held no more.
    """
    for folder in (path, *path.parents):
        if folder in _FENCES:
            _FENCES[folder]()
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
