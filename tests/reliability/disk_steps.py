"""Counting the calls by which a process changes a folder, and ending it, or the disk, at one of them.

A step is what one call asks of the file system: to open a file for writing, to rename, make or remove a
name, to cut or flush a file. A write is two steps: before it, and when half of it is written; that includes
what libsndfile writes, through a file of ours. What llama.cpp writes by itself is no step; the calls before
and after it are. On request the process is held at a step instead of ended, and opening a file for reading is
a step too.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yuegguf.audio import files

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NAMES = {
    "os.mkdir": 1, "os.rmdir": 1, "os.remove": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2,
    "os.truncate": 1, "os.chmod": 1, "os.chown": 1,
}  # fmt: skip
"""Audit events that change the disk, and how many of their arguments are files."""
TAKES_ROOM = {"open", "write", "flush", "os.mkdir", "os.link", "os.symlink"}
"""Steps that a full disk refuses."""
FULL = ("ENOSPC", "EDQUOT")
IGNORED = ("/dev/", "/proc/")
HOLD = "hold"
"""A fault that is none: the process stops at the step until it gets SIGCONT."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Faults that are none either: the process gets the signal at the step, and handles it."""
CACHES = ("matplotlib", "measurements")
"""Folders of caches: of libraries, and ours of measured speeds ($YUEGGUF_CACHE_DIR)."""


class Steps:
    """The steps of this process within a folder."""

    def __init__(self, root: str, at: int, fault: str, reads: bool = False) -> None:
        """End the process before step `at` (0 = never); or let it fail, and all after, with `fault`.

        `reads` counts what is opened for reading, too.
        """
        self.root, self.at, self.fault, self.reads = root, at, fault, reads
        self.taken: list[str] = []
        """Kind and file of each."""
        self.outside: list[str] = []
        """Files elsewhere that this process wanted to change."""

    def step(self, kind: str, file: str, part: Callable[[], int] = lambda: 0) -> int | None:
        """Count; write `part` before the process ends. Returns what that wrote on a disk that is full."""
        self.taken.append(f"{kind} {file}")
        if not self.at or len(self.taken) < self.at:
            return None
        if self.fault in (HOLD, *SIGNALS):
            if len(self.taken) == self.at:
                os.kill(os.getpid(), signal.SIGSTOP if self.fault == HOLD else getattr(signal, self.fault))
            return None
        if not self.fault:
            part()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault in FULL and kind not in TAKES_ROOM:
            return None
        if len(self.taken) == self.at and (written := part()):
            return written
        number = getattr(errno, self.fault)
        raise OSError(number, os.strerror(number))

    def write(self, real: Callable[[Any], int], data: Any, file: str) -> int:
        """Do a write that is two steps."""
        view = memoryview(data).cast("B")
        self.step("write", file)
        written = self.step("write", file, lambda: real(view[: len(view) // 2]) if len(view) > 1 else 0)
        return real(data) if written is None else written

    def within(self, file: object, folder: int = -1) -> str | None:
        """Path of a file to change, if it counts; one elsewhere is noted."""
        if isinstance(file, int):
            path = os.readlink(f"/proc/self/fd/{file}")
        else:
            above = os.getcwd() if folder == -1 else os.readlink(f"/proc/self/fd/{folder}")
            path = os.path.normpath(os.path.join(above, os.fsdecode(file)))  # type: ignore[call-overload]
        if path == self.root or path.startswith(self.root + os.sep):
            return path[len(self.root) + 1 :]
        if not path.startswith(IGNORED) and not set(CACHES) & set(path.split(os.sep)):
            self.outside.append(path)
        return None

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """See what Python itself asks of the system."""
        if event == "open":
            path, _mode, flags = args
            if not isinstance(flags, int) or isinstance(path, int):
                return
            if flags & WRITES:
                if (name := self.within(path)) is not None:
                    self.step("open", name)
            elif self.reads and os.path.abspath(os.fsdecode(path)).startswith(self.root + os.sep):
                self.step("read", os.path.relpath(os.fsdecode(path), self.root))
        elif event in NAMES:
            files = [file for file in args[: NAMES[event]] if not isinstance(file, int) or file > 2]
            folders = [number for number in args[NAMES[event] :] if isinstance(number, int)]
            near = folders[-1] if folders and event in ("os.rmdir", "os.remove") else -1
            inside = [name for file in files if (name := self.within(file, near)) is not None]
            if inside:
                self.step(event, inside[-1])


def install(root: str, report: str, at: int = 0, fault: str = "", reads: bool = False) -> Callable[[], None]:
    """Count from now on; what is returned writes the steps, and what was elsewhere, to `report`."""
    steps = Steps(root, at, fault, reads)
    _patch_writes(steps)
    sys.addaudithook(steps.audit)

    def finish() -> None:
        found = json.dumps({"steps": steps.taken, "outside": steps.outside})
        steps.at, steps.root = 0, "/dev/null"
        Path(report).write_text(found)

    return finish


def _patch_writes(steps: Steps) -> None:
    write, fsync, real_open = os.write, os.fsync, io.open

    class Raw(io.FileIO):
        where: str

        def write(self, data: Any, /) -> int:
            return steps.write(super().write, data, self.where)

    def counted_write(handle: int, data: Any) -> int:
        if handle > 2 and (name := steps.within(handle)) is not None:
            return steps.write(lambda part: write(handle, part), data, name)
        return write(handle, data)

    def counted_fsync(handle: int) -> None:
        if (name := steps.within(handle)) is not None:
            steps.step("flush", name)
        fsync(handle)

    def counted_file(file: Any, mode: str) -> io.FileIO:
        if (name := steps.within(file)) is None:
            return io.FileIO(file, mode)
        raw = Raw(file, mode)
        raw.where = name
        return raw

    def counted_open(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int) or buffering == 0 or more.get("opener"):
            return real_open(file, mode, buffering, *rest, **more)
        if steps.within(file) is None:
            return real_open(file, mode, buffering, *rest, **more)
        raw = counted_file(file, mode.replace("b", "").replace("t", ""))
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        text = [*rest, None, None, None][:3]
        names = ("encoding", "errors", "newline")
        return io.TextIOWrapper(
            buffer, *(more.get(name, given) for name, given in zip(names, text, strict=True))
        )

    os.write, os.fsync = counted_write, counted_fsync  # type: ignore[assignment]
    files.FileIO = counted_file  # type: ignore[attr-defined]
    io.open = builtins.open = counted_open  # type: ignore[assignment]
