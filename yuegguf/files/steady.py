"""Folders that nobody may exchange while they are worked on, by a link to another one least of all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.errors import StorageError

_HELD: dict[Path, tuple[int, int, Path]] = {}
"""Path of each folder that this process works on → its device and number, and where it really is."""


@contextmanager
def steady(folder: Path) -> Iterator[None]:
    """Note which folder a path leads to, for `check_steady` in the block. OSErrors pass through."""
    before, found = _HELD.get(folder), folder.stat()
    _HELD[folder] = found.st_dev, found.st_ino, folder.resolve()
    try:
        yield
    finally:
        if before is None:
            del _HELD[folder]
        else:
            _HELD[folder] = before


def check_steady(path: Path) -> None:
    """Refuse a path in a `steady` folder that is another one by now, or that leads out of it by a link.

    The last part of the path may be such a link: a write takes its place. Raises StorageError.
    """
    for folder in (path, *path.parents):
        if folder in _HELD:
            _check(folder, path.parent if path != folder else path, path)


def check_inside_steady(file: Path) -> None:
    """The same for a file that is read: neither may it be a link that leads out. Raises StorageError."""
    for folder in file.parents:
        if folder in _HELD:
            _check(folder, file, file)


def _check(folder: Path, place: Path, path: Path) -> None:
    device, number, real = _HELD[folder]
    try:
        found = os.stat(folder)
        same = (found.st_dev, found.st_ino) == (device, number)
        inside = same and (os.path.realpath(place) + os.sep).startswith(f"{real}{os.sep}")
    except OSError:  # it is gone
        same = inside = False
    if not inside:
        what = f"{path} leads out of {folder}" if same else f"{folder} is no longer the folder that it was"
        raise StorageError(f"{what}, since another program changed it", "see to it before you go on")
