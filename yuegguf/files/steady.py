"""Checks that a folder stays this process's own: not replaced, no link, not taken over by another machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from yuegguf.errors import StorageError

_Identity = tuple[int, int, Path]
"""Device, inode and resolved path of a folder."""
_FOLDERS: dict[Path, tuple[_Identity, ...]] = {}
"""Path of each folder that this process works on → what it was for each of its users."""
_FENCES: dict[Path, tuple[Callable[[], None], ...]] = {}
"""Path of each folder that this process holds by a lease → functions that raise once it is lost."""
_LOCK = threading.Lock()
"""Held while an entry is added or removed; users of a folder may leave in any order."""
T = TypeVar("T")


@contextmanager
def _entered(table: dict[Path, tuple[T, ...]], folder: Path, entry: T) -> Iterator[None]:
    """Keep an entry of a folder in a table inside the block."""
    with _LOCK:
        table[folder] = (*table.get(folder, ()), entry)
    try:
        yield
    finally:
        with _LOCK:
            left = list(table[folder])
            left.remove(entry)
            if left:
                table[folder] = tuple(left)
            else:
                del table[folder]


@contextmanager
def steady(folder: Path) -> Iterator[None]:
    """Record which folder a path leads to, for `check_steady` inside the block. OSErrors pass through."""
    status = folder.stat()
    with _entered(_FOLDERS, folder, (status.st_dev, status.st_ino, folder.resolve())):
        yield


@contextmanager
def fenced(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` in every `check_steady` of a path in a folder inside the block; it raises StorageError.

    Of several checks of one folder the newest is called.
    """
    with _entered(_FENCES, folder, check):
        yield


def check_steady(path: Path) -> None:
    """Refuse to write in a `steady` folder that was replaced, or that the path leaves by a link.

    The last part of the path may be a link, since a write replaces it. Raises StorageError, also in a
    `fenced` folder that is held no more.
    """
    for folder in (path, *path.parents):
        for check in _FENCES.get(folder, ())[-1:]:
            check()
        for identity in _FOLDERS.get(folder, ()):
            _check(folder, identity, path.parent if path != folder else path, path)


def check_inside_steady(file: Path) -> None:
    """Refuse to read such a path; its last part may not be a link out of the folder. Raises StorageError."""
    for folder in file.parents:
        for identity in _FOLDERS.get(folder, ()):
            _check(folder, identity, file, file)


def _check(folder: Path, identity: _Identity, place: Path, path: Path) -> None:
    device, number, real = identity
    try:
        status = os.stat(folder)
        same = (status.st_dev, status.st_ino) == (device, number)
        inside = same and (os.path.realpath(place) + os.sep).startswith(f"{real}{os.sep}")
    except OSError:  # it is gone
        same = inside = False
    if not inside:
        what = f"{path} leads out of {folder}" if same else f"{folder} is no longer the folder that it was"
        raise StorageError(f"{what}, since another program changed it", "see to it before you go on")
