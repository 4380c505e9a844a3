"""Leases: the right of one process to work in a song folder, where several machines share its storage.

    lease/000004/holder.json    the holder of number 4 and its progress; the highest number is the lease

A lock of the system does not do: it dies with a connection, or lives on in a paused process. A lease is taken
by making the folder of the next number, which one process alone can. Whoever takes it over removes the one
before, by a rename, and then every workspace in the song folder. A write of the former holder
(`files.atomic.replacing`) makes a workspace, looks at its holder.json, and renames the file out of the
workspace. If it looks after the removal, it is refused; if it looked before, the file that it would rename is
gone. Files that are appended to are replaced by copies, so that the former holder appends to files without a
name.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from yuegguf.errors import DamagedFile, FolderBusy
from yuegguf.files import typed_json
from yuegguf.files.atomic import (
    WORKSPACE_PREFIX,
    WORKSPACE_SUFFIX,
    break_lock,
    clear_workspaces,
    is_locked,
    locked_folder,
    replacing,
    storage_errors,
)
from yuegguf.files.steady import fenced

LEASE_FOLDER, HOLDER_FILE = "lease", "holder.json"
APPENDED = ("tokens.log", "preview.wav")
"""Files of a song folder that are appended to in place."""
NUMBER = re.compile(r"[0-9]{6}")
LOOKS = 3
"""Most looks for a lease while others take it over and give it back."""
STALE_SECONDS = 60.0
"""Age of a lease's last sign of life at which a process outside of a cluster takes it over."""
SURE_SECONDS = 10.0
"""Age by this machine's clock that says by itself that there are signs of life."""


@dataclass(frozen=True)
class Holder:
    """Content of holder.json."""

    token: str
    """Random text that no other lease has."""
    unit: str = ""
    """Name of the work for which the folder is held."""
    node: str = ""
    """Name of the machine, for people."""
    machine: str = ""
    """Id of the machine in its cluster."""
    beat: int = 0
    """Signs of life, counted on from the holder before; the first is given once the folder is locked."""
    phase: str = ""
    done: int = 0
    total: int = 0
    note: str = ""


@dataclass(frozen=True)
class Lease:
    """A lease of a song folder, as anybody can read it."""

    number: int
    holder: Holder | None
    """None while its holder.json is not written yet, or cannot be read."""
    age: float
    """Seconds since its last sign of life, by the storage's clock where this machine can write there."""


class HeldLease:
    """A lease that this process has taken."""

    def __init__(self, folder: Path, number: int, holder: Holder) -> None:
        self._folder, self._place, self._holder = folder, _place(folder, number), holder

    def check(self) -> None:
        """Raise FolderBusy once another process has taken the folder over."""
        holder = _read_holder(self._place)
        if holder is None or holder.token != self._holder.token:
            raise FolderBusy(f"another machine has taken over {self._folder}", "leave the song to it")

    def beat(self, phase: str = "", done: int = 0, total: int = 0, note: str = "") -> None:
        """Give a sign of life, with the progress. Raises FolderBusy once the lease is lost, StorageError."""
        self.check()
        self._holder = replace(
            self._holder, beat=self._holder.beat + 1, phase=phase, done=done, total=total, note=note
        )
        _write_holder(self._place, self._holder)

    def release(self) -> None:
        """Give the folder back, unless it is lost."""
        with suppress(FolderBusy):
            self.check()
            shutil.rmtree(self._place, ignore_errors=True)
            with suppress(OSError):  # the next lease is there already
                self._place.parent.rmdir()


@contextmanager
def leased(
    folder: Path, unit: str, node: str, supersede: Lease | None = None, *, machine: str = ""
) -> Iterator[HeldLease]:
    """Hold a song folder by a lease inside the block; every write below it looks first whether it still does.

    `supersede` is the lease of a process that is known to be gone, or gives no sign of life; a lock of the
    folder that it left is broken. Raises FolderBusy where there is another lease, StorageError.
    """
    places = [_place(folder, number) for number in _numbers(folder)] if supersede else []
    beat = max((each.beat for each in map(_read_holder, places) if each), default=0)
    held = _take(folder, Holder(secrets.token_hex(8), unit, node, machine, beat), supersede)
    try:
        with fenced(folder, held.check):
            if supersede is not None:
                _fence_off(folder)
            held.check()
            if beat:  # one before, dead or paused, and no command beside the cluster, holds the lock
                break_lock(folder)
            yield held
    finally:
        held.release()


def read_lease(folder: Path) -> Lease | None:
    """The lease of a song folder, or None where there is none.

    One that others have taken over at each look is given without its holder, as one that was just made.
    """
    lease: Lease | None = None
    for _ in range(LOOKS):
        number = max(_numbers(folder), default=None)
        if number is None:
            return None
        lease, place = Lease(number, None, 0.0), _place(folder, number)
        with suppress(OSError):  # given back or taken over meanwhile
            changed = place.stat().st_mtime
            with suppress(FileNotFoundError):
                changed = max(changed, (place / HOLDER_FILE).stat().st_mtime)
            return Lease(number, _read_holder(place), _age(folder, changed))
    return lease


def _age(folder: Path, changed: float) -> float:
    """Seconds since a moment by the storage's clock, from which this machine's may differ by minutes."""
    age = time.time() - changed
    if not 0 <= age < SURE_SECONDS:
        with suppress(OSError), tempfile.TemporaryFile(prefix=WORKSPACE_PREFIX, dir=folder) as probe:
            age = os.fstat(probe.fileno()).st_mtime - changed
    return max(0.0, age)


@contextmanager
def locked_without_lease(folder: Path) -> Iterator[None]:
    """Lock a song folder inside the block for a process outside of a cluster.

    Ends the lease of a machine that gives no sign of life, with a lock that it left. Raises FolderBusy where
    another process holds the lock, or a lease with signs of life; StorageError.
    """
    with ExitStack() as held:
        if (lease := read_lease(folder)) is None:
            held.enter_context(locked_folder(folder))
        elif lease.age < STALE_SECONDS:
            raise _busy(folder, lease)
        else:
            with leased(folder, "", socket.gethostname(), lease):
                held.enter_context(locked_folder(folder))
        if (lease := read_lease(folder)) is not None:  # taken meanwhile
            raise _busy(folder, lease)
        yield


def is_in_work(folder: Path) -> bool:
    """Whether another process holds the lock of a song folder, or a machine a lease with signs of life."""
    lease = read_lease(folder)
    return is_locked(folder) or (lease is not None and lease.age < STALE_SECONDS)


def _busy(folder: Path, lease: Lease) -> FolderBusy:
    node = lease.holder.node if lease.holder else "another machine"
    return FolderBusy(f"{folder} is being worked on by {node}", "wait for it to end")


def _take(folder: Path, holder: Holder, supersede: Lease | None) -> HeldLease:
    busy = FolderBusy(f"{folder} is being worked on by another machine", "wait for it to end")
    before = read_lease(folder)
    if (before and before.number) != (supersede and supersede.number):
        raise busy
    if before and supersede and before.holder and before.holder.token != _token(supersede):
        raise busy
    number = 1 + (supersede.number if supersede else 0)
    place = _place(folder, number)
    with storage_errors(place):
        if supersede is None:
            place.parent.mkdir(exist_ok=True)
        try:
            place.mkdir()  # which one process alone can
        except (FileExistsError, FileNotFoundError):
            raise busy from None
        if max(_numbers(folder), default=number) > number:  # one that was taken over since it was looked at
            place.rmdir()
            raise busy
    held = HeldLease(folder, number, holder)
    try:
        _write_holder(place, holder)
        for earlier in _numbers(folder):
            if earlier < number:
                _remove(folder, _place(folder, earlier))
    except BaseException:
        held.release()
        raise
    return held


def _fence_off(folder: Path) -> None:
    """Make harmless what a former holder still does; see the module. Raises StorageError."""
    for part in (folder, folder / "chunks"):
        clear_workspaces(part)
    for name in APPENDED:
        with storage_errors(folder / name):
            if (folder / name).is_file():
                with replacing(folder / name) as beside:
                    shutil.copyfile(folder / name, beside)


def _remove(folder: Path, place: Path) -> None:
    """Remove a lease at once, so that nothing can be written into it any more. Raises StorageError."""
    beside = folder / f"{WORKSPACE_PREFIX}{secrets.token_hex(8)}{WORKSPACE_SUFFIX}"
    with storage_errors(place), suppress(FileNotFoundError):
        place.rename(beside)
    shutil.rmtree(beside, ignore_errors=True)


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder / LEASE_FOLDER)
    except OSError:
        return []
    return [int(name) for name in names if NUMBER.fullmatch(name)]


def _place(folder: Path, number: int) -> Path:
    return folder / LEASE_FOLDER / f"{number:06d}"


def _token(lease: Lease) -> str:
    return lease.holder.token if lease.holder else ""


def _read_holder(place: Path) -> Holder | None:
    try:
        return typed_json.read_file(place / HOLDER_FILE, Holder, "delete the folder lease")
    except (OSError, DamagedFile):
        return None


def _write_holder(place: Path, holder: Holder) -> None:
    with replacing(place / HOLDER_FILE) as beside:
        beside.write_bytes(typed_json.encode(holder))
