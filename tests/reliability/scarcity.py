"""Commands that lack room, rights, files or memory, and go on when they have them.

    PYTHONPATH=tests/support:. python tests/reliability/scarcity.py --seconds 600 --seed 1
    PYTHONPATH=tests/support:. python tests/reliability/scarcity.py --seconds 60 --seed 1 --only render

Each must end in one sentence and an exit code of ours, or not need what it lacks. Earlier work stays, and
with all that it needs the same command, or `resume`, ends as an undisturbed run does. Mounting and another
user need root; without that they are left out, and said to be.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crashing import Driver, Found, Whole, age, driver_of_a_run
from helpers import Result
from long_runs import arguments
from promises import Broken, check_promise, check_sentence, content
from surroundings import NOBODY
from writers import WRITERS, Writer

from yuegguf.files.atomic import UNOWNED_PREFIX, WORKSPACE_PREFIX

FAULTS = ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES")
SIZES = (4, 8, 16, 32, 64, 128, 192, 256, 384, 512)
"""KiB of a small disk."""
LIMITS = (
    *({"RLIMIT_FSIZE": most} for most in (600, 1000, 2000, 4000, 8000, 16_000, 60_000, 100_000)),
    *({"RLIMIT_NOFILE": most} for most in (6, 8, 10, 12, 16, 24)),
)
MEMORY = tuple({"RLIMIT_AS": most << 20} for most in (1, 4, 16, 64))
"""Limits of commands without an engine, beyond the memory of the process at its start."""
PLAIN = {
    "export",
    "export --yue-ui",
    "bundle",
    "decode",
    "encode",
    "pull --from",
    "pull --to",
    "models rm",
    "trim",
    "convert-lora",
    "merge-lora",
}
"""Commands without an engine."""


@dataclass
class Ends:
    """Outcomes of commands that lacked a resource."""

    refused: int = 0
    fine: int = 0
    """Ended well: what they lacked was not needed."""
    sentences: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def check_end(driver: Driver, whole: Whole, result: Result, ends: Ends) -> None:
    """A command that lacked something ended as it should. Raises Broken."""
    if result.code in (0, 6):
        ends.fine += 1
    else:
        check_sentence(result)
        ends.refused += 1
        ends.sentences[_kind(result.err)] += 1
    check_promise(driver.work, whole.before, whole.after)


def _kind(err: str) -> str:
    """Text of an error line without names and numbers."""
    line = err.splitlines()[-1]
    for known in (
        "the disk is full",
        "too many files are open",
        "is not writable",
        "could not be written",
        "could not be read",
        "memory",
    ):
        if known in line:
            return known
    return line[:80]


def lacking(driver: Driver, writer: Writer, whole: Whole, ends: Ends, **lack: Any) -> None:
    """Run a command that lacks something, then without the lack. Raises Broken."""
    driver.begin(writer)
    line = writer.line(driver.work)
    result = driver.run(writer, line, **lack)
    if result.code < 0:
        raise Broken(f"signal {-result.code}: {result.err}")
    check_end(driver, whole, result, ends)
    if lack.get("fault") in (None, "ENOSPC", "EDQUOT"):
        left = list(driver.work.rglob(f"{WORKSPACE_PREFIX}*")) + list(driver.work.rglob(f"{UNOWNED_PREFIX}*"))
        if left:
            raise Broken(f"left over: {left}")
    age(driver.work)
    if result.code not in (0, 6) or content(driver.work) != whole.after:
        try:
            driver.go_on(writer, line, whole.after, Found())
        except Broken as error:  # a preview that ended, which was said, is not made again
            only = re.fullmatch(r"not the same: \['\S*preview\.wav'\]", str(error))
            if not only or "the preview ends here, the song goes on" not in result.err:
                raise


@contextmanager
def disk(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at a folder. Raises PermissionError where mounting is not allowed."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        raise PermissionError(mounted.stderr.decode())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def on_small_disk(driver: Driver, writer: Writer, whole: Whole, ends: Ends, kilobytes: int) -> None:
    """Run a command where only so much room is left, then with enough. Raises Broken, PermissionError."""
    _empty(driver)
    with disk(driver.work, "size=64m"):
        driver.stock.lay(writer.start, driver.work)
        used = sum(-(-path.stat().st_size // 4096) * 4 for path in driver.work.rglob("*") if path.is_file())
        remount(driver.work, f"size={used + kilobytes}k")
        line = writer.line(driver.work)
        check_end(driver, whole, driver.run(writer, line, unasked=True), ends)
        remount(driver.work, "size=64m")
        if content(driver.work) != whole.after:
            driver.go_on(writer, line, whole.after, Found())


def on_read_only_disk(driver: Driver, writer: Writer, whole: Whole, ends: Ends) -> None:
    """Run a command on a read-only disk. Raises Broken."""
    _empty(driver)
    with disk(driver.work, "size=64m"):
        driver.stock.lay(writer.start, driver.work)
        remount(driver.work, "ro")
        line = writer.line(driver.work)
        check_end(driver, whole, driver.run(writer, line), ends)
        if content(driver.work) != whole.before:
            raise Broken("a disk that is read-only changed")
        remount(driver.work, "rw")
        driver.go_on(writer, line, whole.after, Found())


def _empty(driver: Driver) -> None:
    shutil.rmtree(driver.work, ignore_errors=True)


def as_nobody(driver: Driver, writer: Writer, whole: Whole, ends: Ends) -> None:
    """Run a command as a user who may read everything and write nothing. Raises Broken."""
    driver.begin(writer)
    line = writer.line(driver.work)
    check_end(driver, whole, driver.run(writer, line, user=NOBODY), ends)
    if content(driver.work) != whole.before:
        raise Broken("another user changed it")
    driver.go_on(writer, line, whole.after, Found())


def tries(writer: Writer, steps: int, chance: random.Random) -> list[tuple[str, dict[str, Any]]]:
    """Resources for a command to lack, in random order."""
    found: list[tuple[str, dict[str, Any]]] = [("limits", {"limits": limits}) for limits in LIMITS]
    if writer.name in PLAIN:
        found += [("memory", {"limits": limits}) for limits in MEMORY]
    found += [
        (f"{fault} from a step on", {"at": at, "fault": fault})
        for fault in FAULTS
        for at in sorted({chance.randint(1, steps) for _ in range(12)})
    ]
    if os.geteuid() == 0:
        found += [("small disk", {"kilobytes": size}) for size in SIZES]
        found += [("read-only disk", {}), ("another user", {})]
    chance.shuffle(found)
    return found


ACTS = {"small disk": on_small_disk, "read-only disk": on_read_only_disk, "another user": as_nobody}


def attempt(
    driver: Driver, writer: Writer, whole: Whole, lack: tuple[str, dict[str, Any]], ends: Ends
) -> None:
    """One command that lacks something; a broken promise is noted."""
    name, given = lack
    try:
        ACTS.get(name, lacking)(driver, writer, whole, ends, **given)  # type: ignore[operator]
    except Broken as error:
        ends.broken.append(f"{writer.name} {given}: {error}")
        print(f"{name}: {ends.broken[-1]}", file=sys.stderr)


def long_run(driver: Driver, seconds: float, seed: int, only: str) -> dict[str, Ends]:
    """Let commands lack things in turn until the time is over or all is tried."""
    chance, found = random.Random(seed), dict[str, Ends]()
    left = []
    for writer in WRITERS:
        if only in writer.name:
            whole = driver.undisturbed(writer)
            left.append((writer, whole, tries(writer, len(whole.steps), chance)))
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:
        for each in list(left):
            if time.monotonic() > end:
                break
            writer, whole, lacks = each
            lack = lacks.pop()
            attempt(driver, writer, whole, lack, found.setdefault(lack[0], Ends()))
            if not lacks:
                left.remove(each)
    return found


def main() -> int:
    """Run from the command line; exit code 1 where a promise was broken."""
    asked = arguments(__doc__)
    with driver_of_a_run() as driver:
        found = long_run(driver, asked.seconds, asked.seed, asked.only)
    print(f"{'lack':<24}{'refused':>9}{'fine':>7}{'broken':>8}  sentences")
    for name, ends in sorted(found.items()):
        said = ", ".join(f"{count} × {text}" for text, count in ends.sentences.most_common())
        print(f"{name:<24}{ends.refused:>9}{ends.fine:>7}{len(ends.broken):>8}  {said}")
    if os.geteuid():
        print("small and read-only disks and another user need root, and were left out")
    return 1 if any(ends.broken for ends in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
