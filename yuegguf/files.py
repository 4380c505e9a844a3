"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yuegguf.errors import StorageError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path beside `target`; on success it is flushed to disk and renamed over `target`.

    Whatever happens, nothing is left beside it, unless the process is killed: see `sweep`. Raises
    StorageError in plain words.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    with storage_errors(target):
        try:
            yield beside
            flush(beside)
            beside.replace(target)
            flush(target.parent)
        finally:
            beside.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left of `replacing` in a folder and below; what cannot go, stays.

    Only for a folder that nobody else writes to: a file that is being written looks the same.
    """
    for left in folder.rglob(".*.[0-9]*.part"):
        with suppress(OSError):
            left.unlink()


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn an OSError of writing `target` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise storage_error(target, error) from error


def free_disk(folder: Path) -> int:
    """Bytes free where a folder is, or will be made. Raises StorageError."""
    with storage_errors(folder):
        return shutil.disk_usage(standing(folder)).free


def standing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def check_room(folder: Path, needed: int, what: str, option: str) -> None:
    """Refuse what the disk of `folder` cannot take, before anything is written. Raises StorageError.

    `option` chooses another folder.
    """
    free = free_disk(folder)
    if needed > free:
        raise StorageError(
            f"{what} needs {_size(needed)} of disk, and {_size(free)} are free in {standing(folder)}",
            f"free some space, or choose another folder with {option}",
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def storage_error(target: Path, error: OSError) -> StorageError:
    """The sentence for a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk is full: {target} could not be written", "free some space and try again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"{target} is not writable", "choose another folder or change its permissions")
    return StorageError(f"{target} could not be written ({error.strerror or error})", "check the path")


def flush(path: Path) -> None:
    """Force a file or a folder's entries to the disk; folders cannot be flushed everywhere."""
    handle = os.open(path, os.O_RDONLY)
    try:
        if path.is_dir():
            with suppress(OSError):
                os.fsync(handle)
        else:
            os.fsync(handle)
    finally:
        os.close(handle)
