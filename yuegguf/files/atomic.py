"""Atomic writes and locks: a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from yuegguf.errors import (
    TOO_MANY_OPEN,
    DamagedFile,
    FolderBusy,
    RequestError,
    StorageError,
    too_many_open_files,
)
from yuegguf.files.reading import open_plain_file, unreadable
from yuegguf.files.sizes import size_text
from yuegguf.files.song_work import check_no_song_work
from yuegguf.files.steady import check_steady, steady

WORKSPACE_PREFIX, UNOWNED_PREFIX, WORKSPACE_SUFFIX = ".yuegguf-", ".new-yuegguf-", ".part"
"""Names of workspaces, the temporary folders of new files, with and without an owner's lock."""
UNOWNED_SECONDS = 3600.0
"""Age at which a workspace without an owner belongs to a dead process; long, since clocks may differ."""
CLAIM_ATTEMPTS, LOOK_SECONDS = 3, 0.02
"""Attempts to take a lock, and the pause between two: far longer than `is_locked` holds it."""
NO_LOCK_ERRORS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF)
"""Errors of network file systems without locks, besides ENOSYS, which filelock handles."""
REPLACEABLE = (stat.S_IFREG, stat.S_IFLNK)
"""File types that a write may replace."""
HELD_SUFFIX = ".held"
"""End of the name of a file that stands for a lock where the file system has none."""
OWNER_LOCK = "owner.lock"
"""File of a workspace that its process keeps locked."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a path for the new content of `target`; on success it is flushed to disk and renamed over it.

    A link at `target` is replaced, never followed; a device, a FIFO or a folder is not. Whatever happens,
    nothing is left beside it, unless the process is killed: the next write into that folder removes it then.
    Raises StorageError.
    """
    with storage_errors(target), workspace(target.parent) as folder:
        if os.path.lexists(target) and stat.S_IFMT(target.lstat().st_mode) not in REPLACEABLE:
            raise StorageError(f"{target} is not a file that can be replaced", "choose another name")
        beside = folder / target.name
        yield beside
        try:
            flush(beside)
            check_steady(target)
            beside.replace(target)
        except FileNotFoundError:
            check_steady(target)  # a machine that has taken the folder over removes the file
            raise
        flush_folder(target.parent)


@contextmanager
def workspace(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder inside `parent` for files that are then renamed into `parent`.

    Other processes do not touch it while this one lives; workspaces of dead processes are removed first.
    OSErrors pass through.
    """
    check_steady(parent / UNOWNED_PREFIX)
    sweep(parent)
    made = Path(tempfile.mkdtemp(prefix=UNOWNED_PREFIX, suffix=WORKSPACE_SUFFIX, dir=parent))
    folder = made.with_name(made.name.replace(UNOWNED_PREFIX, WORKSPACE_PREFIX, 1))
    try:
        lock = _lock_file(made / OWNER_LOCK)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    try:
        made.rename(folder)  # only now can `sweep` see it
        yield folder
    finally:
        _remove(folder, lock)
        shutil.rmtree(made, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the workspaces that dead processes left in a folder; what cannot be removed stays."""
    for left in folder.glob(f"{UNOWNED_PREFIX}*{WORKSPACE_SUFFIX}"):
        with suppress(OSError):  # renamed by its owner meanwhile
            if not left.is_symlink() and time.time() - left.stat().st_mtime > UNOWNED_SECONDS:
                shutil.rmtree(left)
    for left in folder.glob(f"{WORKSPACE_PREFIX}*{WORKSPACE_SUFFIX}"):
        if left.is_symlink() or not left.is_dir():
            continue
        with suppress(OSError):  # a Timeout, where its process lives
            _remove(left, _lock_file(left / OWNER_LOCK))


def clear_workspaces(folder: Path) -> None:
    """Remove the workspaces of all processes in a folder, also of living ones, whose writes then fail."""
    for prefix in (UNOWNED_PREFIX, WORKSPACE_PREFIX):
        for left in folder.glob(f"{prefix}*{WORKSPACE_SUFFIX}"):
            if not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)


def _remove(folder: Path, lock: BaseFileLock) -> None:
    """Delete a locked workspace: before releasing the lock, or on Windows, which refuses that, after it."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # rmtree opens the folder, which a process with too many open files cannot
        (folder / OWNER_LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _lock_file(path: Path) -> BaseFileLock:
    """Lock a file for this process: by the kernel, else by a file beside it that names the process.

    Raises Timeout where another holds it, OSError, also for a file with a name elsewhere, which some
    versions of filelock would empty.
    """
    if os.path.lexists(path) and (path.is_symlink() or path.lstat().st_nlink > 1):
        raise OSError(errno.EINVAL, "it is a link to another file", str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filelock warns of its fallback
        lock: BaseFileLock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in NO_LOCK_ERRORS:
                raise
            lock = SoftFileLock(f"{path}{HELD_SUFFIX}", timeout=0, thread_local=False)
            lock.acquire()
        return lock


def _claimed_lock(path: Path) -> BaseFileLock:
    """Lock a file for this process, after waiting for one that only looks at the lock, as `is_locked` does.

    Raises as `_lock_file`.
    """
    for _ in range(CLAIM_ATTEMPTS - 1):
        with suppress(Timeout):
            return _lock_file(path)
        time.sleep(LOOK_SECONDS)
    return _lock_file(path)


@contextmanager
def locked_folder(folder: Path, name: str = ".lock", busy: str = "") -> Iterator[None]:
    """Lock a folder for this process, with a lock file that the system releases if the process dies.

    Every write below it is then refused once the path leads to another folder. Raises StorageError with
    the message `busy` when another process, or another part of this one, holds it.
    """
    try:
        with storage_errors(folder / name):
            lock = _claimed_lock(folder / name)
    except Timeout as error:
        what = busy or f"{folder} is being worked on by another yuegguf"
        raise FolderBusy(what, "wait for it to end") from error
    with ExitStack() as held:
        held.callback(lock.release)
        with storage_errors(folder):
            held.enter_context(steady(folder))
        try:
            yield
        finally:
            with suppress(OSError, StorageError):  # Windows keeps a file that is open
                check_steady(folder / name)
                (folder / name).unlink()


def is_locked(folder: Path, name: str = ".lock") -> bool:
    """Whether another process, or another part of this one, holds the lock of a folder."""
    try:
        if os.path.isfile(folder / name):
            _lock_file(folder / name).release()
    except Timeout:
        return True
    except OSError:  # a folder that cannot be written is not being worked on
        return False
    return False


def break_lock(folder: Path, name: str = ".lock") -> None:
    """Unlock a folder that a process has locked which can write there no more: dead, or without its lease.

    Raises StorageError.
    """
    for file in (folder / name, folder / f"{name}{HELD_SUFFIX}"):
        with storage_errors(file):
            file.unlink(missing_ok=True)


def unshare(path: Path) -> None:
    """Give a file that has other names, by hard links, a copy of its own, since it is written in place.

    Raises StorageError.
    """
    with storage_errors(path):
        if path.is_file() and path.stat().st_nlink > 1:
            with replacing(path) as beside:
                shutil.copyfile(path, beside)


@contextmanager
def ensured_folder(folder: Path) -> Iterator[None]:
    """Create a folder and its parents; removes those still empty at the end. Raises StorageError."""
    missing = [path for path in (folder, *folder.absolute().parents) if not os.path.exists(path)]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # it holds something by now
                path.rmdir()


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn an OSError of writing `target` into a StorageError that says what to do."""
    try:
        yield
    except Timeout:  # filelock's, which is an OSError too
        raise
    except OSError as error:
        raise storage_error(target, error) from error


def refuse_to_replace(files: Sequence[Path], force: bool) -> None:
    """Raise RequestError when one of the files, or a link of that name, is there and may not be replaced.

    What a song goes on from is never replaced, with `force` neither.
    """
    for file in files:
        check_no_song_work(file)
    there = next((file for file in files if os.path.lexists(file)), None)  # unlike Path.exists, never raises
    if there is not None and not force:
        raise RequestError(
            f"{there} is already there", "choose another place with -o, or replace it with --force"
        )


def read_limited(path: Path, most: int, hint: str) -> bytes:
    """Bytes of a file, at most `most`. Raises DamagedFile for a larger or unreadable file."""
    try:
        with open_plain_file(path) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) > most:
        raise DamagedFile(f"{path} is larger than {most >> 20} MiB", hint)
    return data


def free_disk(folder: Path) -> int:
    """Free bytes on the disk of a folder that need not exist. Raises StorageError."""
    with storage_errors(folder):
        return shutil.disk_usage(existing_parent(folder)).free


def existing_parent(folder: Path) -> Path:
    """The folder, or its nearest existing parent."""
    return next(path for path in (folder, *folder.absolute().parents) if os.path.isdir(path))


def check_free_disk(folder: Path, needed: int, job: str, option: str) -> None:
    """Raise StorageError unless the disk of `folder` has `needed` bytes free.

    `option` is the command-line option for another folder.
    """
    free = free_disk(folder)
    if needed > free:
        place = existing_parent(folder)
        raise StorageError(
            f"{job} needs {size_text(needed)} of disk, and {size_text(free)} are free in {place}",
            f"free some space, or choose another folder with {option}",
        )


def storage_error(target: Path, error: OSError) -> StorageError:
    """The StorageError of a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"the disk is full: {target} could not be written", "free some space and try again"
        )
    if error.errno in TOO_MANY_OPEN:
        return too_many_open_files()
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"{target} is not writable", "choose another folder or change its permissions")
    return StorageError(f"{target} could not be written ({error.strerror or error})", "check the path")


def flush(path: Path) -> None:
    """Force a file's bytes to the disk."""
    with path.open("r+b") as file:  # Windows flushes only files opened for writing
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Force a folder's entries to the disk, on systems that can."""
    if sys.platform == "win32":  # a folder cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse
            os.fsync(handle)
    finally:
        os.close(handle)
