"""Open untrusted paths for reading: a FIFO or a device in place of a file never blocks."""

from __future__ import annotations

import errno
import glob
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.errors import DamagedFile

FileVersion = tuple[int, ...]
"""Numbers of a file that change whenever its content does."""


def open_plain_file(path: Path) -> io.BufferedReader:
    """Open a plain file for reading. Raises OSError, also for anything but a plain file."""
    return open(path, "rb", opener=_open_plain)


def open_plain_file_or_pipe(path: Path) -> io.BufferedReader:
    """Open a file, or a pipe such as `<(command)`; a pipe without a writer is empty.

    Raises OSError.
    """
    return open(path, "rb", opener=_open_pipe)


def file_version(path: Path) -> FileVersion:
    """Device, inode, bytes and times of a file; empty where there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def unreadable(path: Path, error: OSError) -> DamagedFile:
    """The DamagedFile of a file that cannot be read, whose content nobody knows."""
    hint = "change its permissions" if isinstance(error, PermissionError) else "check the disk"
    return DamagedFile(f"{path} cannot be read ({error.strerror or error})", hint)


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of reading into `unreadable`."""
    try:
        yield
    except OSError as error:
        raise unreadable(path, error) from error


def paths_in(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder that match, sorted; none where it is missing or this user may not look into it."""
    return sorted(folder / name for name in glob.glob(pattern, root_dir=folder))


def is_closed(folder: Path) -> bool:
    """Whether this user may not look into a folder, or not even see whether it is there."""
    try:
        with os.scandir(folder):
            return False
    except OSError as error:
        return isinstance(error, PermissionError)


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _open_pipe(path: str, flags: int) -> int:
    """Open without waiting for a pipe's writer, then wait for its bytes."""
    handle = _open_nonblocking(path, flags)
    if stat.S_ISFIFO(os.fstat(handle).st_mode):
        os.set_blocking(handle, True)
    return handle


def _open_plain(path: str, flags: int) -> int:
    handle = _open_nonblocking(path, flags)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "it is not a file", path)
