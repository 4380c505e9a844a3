"""Counting the calls by which this process changes a folder, and ending the process, or the disk, at one of them.

A step is what one call asks of the file system: to open a file for writing, to rename, make or remove a name, to
cut or flush a file. A write is two steps: before it, and when half of it is written. What libraries in C write
by themselves (libsndfile, llama.cpp) is no step; the calls before and after it are.
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

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NAMES = {
    "os.mkdir": 1, "os.rmdir": 1, "os.remove": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2,
    "os.truncate": 1, "os.chmod": 1, "os.chown": 1,
}  # fmt: skip
"""Audit events that change the disk, and how many of their arguments are files."""
TAKES_ROOM = {"open", "write", "flush", "os.mkdir", "os.link", "os.symlink"}
"""Steps that a full disk refuses."""
IGNORED = ("/dev/", "/proc/")


class Steps:
    """The steps of this process within a folder."""

    def __init__(self, root: str, at: int, fault: str) -> None:
        """End the process before step `at` (0 = never); or, with an errno's name, let every step fail from then."""
        self.root, self.at, self.fault = root, at, fault
        self.count = 0
        self.outside: list[str] = []
        """Files elsewhere that this process wanted to change."""

    def step(self, kind: str, part: Callable[[], int] = lambda: 0) -> int | None:
        """Count; at the end of the process write `part` first. Returns what that wrote on a disk that is full."""
        self.count += 1
        if not self.at or self.count < self.at:
            return None
        if not self.fault:
            part()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "ENOSPC" and kind not in TAKES_ROOM:
            return None
        if self.count == self.at and (written := part()):
            return written
        number = getattr(errno, self.fault)
        raise OSError(number, os.strerror(number))

    def write(self, real: Callable[[Any], int], data: Any) -> int:
        """Do a write that is two steps."""
        view = memoryview(data).cast("B")
        self.step("write")
        written = self.step("write", lambda: real(view[: len(view) // 2]) if len(view) > 1 else 0)
        return real(data) if written is None else written

    def inside(self, file: object, folder: int = -1) -> bool:
        """Whether a file that is to be changed counts; one elsewhere is noted."""
        if isinstance(file, int):
            path = os.readlink(f"/proc/self/fd/{file}")
        else:
            above = os.getcwd() if folder == -1 else os.readlink(f"/proc/self/fd/{folder}")
            path = os.path.normpath(os.path.join(above, os.fsdecode(file)))  # type: ignore[call-overload]
        if path == self.root or path.startswith(self.root + os.sep):
            return True
        if path.startswith(os.sep) and not path.startswith(IGNORED):
            self.outside.append(path)
        return False

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """See what Python itself asks of the system."""
        if event == "open":
            path, _mode, flags = args
            if isinstance(flags, int) and flags & WRITES and not isinstance(path, int) and self.inside(path):
                self.step("open")
        elif event in NAMES:
            files = [file for file in args[: NAMES[event]] if not isinstance(file, int) or file > 2]
            folders = [number for number in args[NAMES[event] :] if isinstance(number, int)]
            near = folders[-1] if folders and event in ("os.rmdir", "os.remove") else -1
            if any([self.inside(file, near) for file in files]):
                self.step(event)


def install(root: str, report: str, at: int = 0, fault: str = "") -> Callable[[], None]:
    """Count from now on; the function that is returned writes the count and what was elsewhere to `report`."""
    steps = Steps(root, at, fault)
    _patch_writes(steps)
    sys.addaudithook(steps.audit)

    def finish() -> None:
        count, steps.at = steps.count, 0
        Path(report).write_text(json.dumps({"count": count, "outside": steps.outside}))

    return finish


def _patch_writes(steps: Steps) -> None:
    write, fsync, real_open = os.write, os.fsync, io.open

    class Raw(io.FileIO):
        def write(self, data: Any, /) -> int:
            return steps.write(super().write, data)

    def counted_write(handle: int, data: Any) -> int:
        if handle > 2 and steps.inside(handle):
            return steps.write(lambda part: write(handle, part), data)
        return write(handle, data)

    def counted_fsync(handle: int) -> None:
        steps.step("flush")
        fsync(handle)

    def counted_open(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int) or buffering == 0 or more.get("opener"):
            return real_open(file, mode, buffering, *rest, **more)
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        text = [*rest, None, None, None][:3]
        names = ("encoding", "errors", "newline")
        return io.TextIOWrapper(buffer, *(more.get(name, given) for name, given in zip(names, text, strict=True)))

    os.write, os.fsync = counted_write, counted_fsync  # type: ignore[assignment]
    io.open = builtins.open = counted_open  # type: ignore[assignment]
