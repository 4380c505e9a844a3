"""Opening a file that somebody else may have put there: a FIFO or a device in its place never blocks."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


def opened(path: Path) -> io.BufferedReader:
    """Open a plain file for reading. Raises OSError, for anything but a file too."""
    return open(path, "rb", opener=_plain)


def opened_pipe(path: Path) -> io.BufferedReader:
    """Open a file, or a pipe that is being written, as `<(command)` is; one without a writer is empty.

    Raises OSError.
    """
    return open(path, "rb", opener=_waiting)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _waiting(path: str, flags: int) -> int:
    """A pipe's bytes are waited for; only its writer is not."""
    handle = _at_once(path, flags)
    if stat.S_ISFIFO(os.fstat(handle).st_mode):
        os.set_blocking(handle, True)
    return handle


def _plain(path: str, flags: int) -> int:
    handle = _at_once(path, flags)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return handle
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "it is not a file", path)
