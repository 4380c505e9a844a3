"""Kills of every command that writes, at the n-th step that it takes on the disk.

    PYTHONPATH=tests/support:. python tests/reliability/crashing.py --seconds 600 --seed 1
    PYTHONPATH=tests/support:. python tests/reliability/crashing.py --seconds 60 --seed 1 --only render

A command is killed; what then lies in its folder must be as promised; the command, or `resume`, is run again
to its end; the folder must then be that of an undisturbed run, byte for byte, with nothing left over. No file
elsewhere may change. Engines and codec are those of cheap.py.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import Result
from long_runs import arguments
from promises import Broken, Content, check_equal, check_promise, check_sentence, content, require
from writers import WRITERS, Stock, Writer
from zygote import Zygote, zygote

from yuegguf.files.atomic import UNOWNED_PREFIX

ENOUGH = 80
"""Up to so many steps of a command are all tried, in a long run; more are drawn by chance."""


@dataclass(frozen=True)
class Whole:
    """An undisturbed run."""

    before: Content
    after: Content
    steps: list[str]
    """Kind and file of each."""


@dataclass
class Found:
    """Outcomes of the kills of one command."""

    steps: int = 0
    kills: int = 0
    forced: int = 0
    """Number of times that the command required --force, because files that it had written existed."""
    again: int = 0
    """Number of times that it had ended before the kill could matter."""
    broken: list[str] = field(default_factory=list)


class Driver:
    """Kills commands in a folder of its own."""

    def __init__(self, root: Path, program: Zygote) -> None:
        self.root, self.program = root, program
        self.work, self.canary, self.report = root / "work", root / "canary", root / "steps"
        self.stock = Stock(root / "stock", program)
        self.careless = ""
        """A way of unsafe.py in which commands are careless, which must show."""
        self.canary.mkdir(parents=True)
        self.report.touch()
        self.report.chmod(0o666)  # for another user
        (self.canary / "file").write_text("mine")
        (self.canary / "folder").mkdir()

    def run(
        self,
        writer: Writer,
        line: tuple[object, ...],
        at: int = 0,
        fault: str = "",
        reads: bool = False,
        stopped: Callable[[], None] = lambda: None,
        **around: Any,
    ) -> Result:
        """One command: killed at a step, on a disk that fails from it on, or in other surroundings.

        One that is held at a step goes on once `stopped` was called.
        """
        steps = {
            "root": str(self.work), "report": str(self.report), "at": at, "fault": fault, "reads": reads
        }  # fmt: skip
        environment = {name: str(self.work / path) for name, path in writer.environment.items()}
        environment["MPLCONFIGDIR"] = str(self.root / "matplotlib")
        environment["YUEGGUF_CACHE_DIR"] = str(self.root / "measurements")
        around = {"environment": environment, "folder": str(self.work), **around}
        before = [*self.ways(), ("surroundings", around), ("disk_steps", steps)]
        return self.program.run(*line, before=before, stopped=stopped)

    def ways(self) -> list[tuple[str, dict[str, Any]]]:
        """Environments that make a command careless."""
        return [("unsafe", {"way": self.careless})] if self.careless else []

    def begin(self, writer: Writer) -> Content:
        """Lay out what a command begins with."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        self.stock.lay(writer.start, self.work)
        return content(self.work)

    def undisturbed(self, writer: Writer) -> Whole:
        """Files before and after the command, and the number of its steps. Raises Broken."""
        before = self.begin(writer)
        result = self.run(writer, writer.line(self.work))
        require(result.code in (0, 6), f"{writer.name} failed: {result.err}")
        found = json.loads(self.report.read_text())
        require(not found["outside"], f"{writer.name} writes elsewhere: {found['outside']}")
        return Whole(before, content(self.work), found["steps"])

    def kill(self, writer: Writer, at: int, whole: Whole, found: Found) -> None:
        """Kill at a step, look, and run it again to its end. Raises Broken."""
        self.begin(writer)
        line = writer.line(self.work)
        result = self.run(writer, line, at)
        require(result.code == -signal.SIGKILL, f"it ended with {result.code}: {result.err}")
        found.kills += 1
        check_promise(self.work, whole.before, whole.after)
        age(self.work)
        self.go_on(writer, line, whole.after, found)
        self._check_canary()

    def interrupt(self, writer: Writer, at: int, name: str, whole: Whole, found: Found) -> int:
        """Send a signal that a command handles at a step, and run it again to its end; its exit code.

        Raises Broken.
        """
        self.begin(writer)
        line = writer.line(self.work)
        result = self.run(writer, line, at, name)
        found.kills += 1
        check_promise(self.work, whole.before, whole.after)
        age(self.work)
        if result.code in (75, 130):
            lines = [text for text in result.err.splitlines() if text.startswith(("error: ", "stopped"))]
            require(len(lines) == 1 and "Traceback" not in result.err, f"{result.code} {result.err}")
            self.go_on(writer, line, whole.after, found)
        else:  # it came when all was done
            require(result.code in (0, 6), f"it ended with {result.code}: {result.err}")
            check_equal(content(self.work), whole.after)
        self._check_canary()
        return result.code

    def _check_canary(self) -> None:
        require(
            sorted(path.name for path in self.canary.iterdir()) == ["file", "folder"], "the canary changed"
        )
        require((self.canary / "file").read_text() == "mine", "the canary changed")

    def go_on(self, writer: Writer, line: tuple[object, ...], after: Content, found: Found) -> None:
        """Run a command again, and compare what is there then. Raises Broken."""
        result = self.run(writer, writer.again(self.work, line))
        if result.code in (1, 5) and "--force" in result.err:
            found.forced += 1
            result = self.run(writer, (*line, "--force"))
        elif result.code in writer.over:
            found.again += 1
            check_sentence(result)
        else:
            require(result.code in (0, 6), f"it does not go on ({result.code}): {result.err}")
        check_equal(content(self.work), after)


def age(work: Path) -> None:
    """Let an hour pass for workspaces that were killed before they had an owner."""
    for left in work.rglob(f"{UNOWNED_PREFIX}*"):
        os.utime(left, (0, 0))


@contextmanager
def driving(root: Path) -> Iterator[Driver]:
    """A driver for as long as it is needed."""
    with zygote(root / "program", cheap=True) as program:
        yield Driver(root, program)


@contextmanager
def driver_of_a_run() -> Iterator[Driver]:
    """A driver in a temporary folder, which another user may read."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        with driving(Path(root)) as driver:
            yield driver


def chosen(steps: int, chance: random.Random) -> list[int]:
    """Steps to kill at, in an order by chance: each once where there are few."""
    every = list(range(1, steps + 1))
    chance.shuffle(every)
    return every if steps <= ENOUGH else every[:ENOUGH]


def long_run(driver: Driver, seconds: float, seed: int, only: str) -> dict[str, Found]:
    """Kill commands in turn until the time is over or all moments are tried."""
    chance = random.Random(seed)
    writers = [writer for writer in WRITERS if only in writer.name]
    found = {writer.name: Found() for writer in writers}
    left: dict[str, tuple[Writer, list[int], Whole]] = {}
    for writer in writers:
        try:
            whole = driver.undisturbed(writer)
        except Broken as error:
            found[writer.name].broken.append(str(error))
            continue
        found[writer.name].steps = len(whole.steps)
        left[writer.name] = (writer, chosen(len(whole.steps), chance), whole)
    end = time.monotonic() + seconds
    while left and time.monotonic() < end:
        for name, (writer, moments, whole) in list(left.items()):
            if time.monotonic() > end:
                break
            at = moments.pop()
            try:
                driver.kill(writer, at, whole, found[name])
            except Broken as error:
                found[name].broken.append(f"step {at}: {error}")
                print(f"{name}, step {at} ({whole.steps[at - 1]}): {error}", file=sys.stderr)
            if not moments:
                del left[name]
    return found


def main() -> int:
    """Run from the command line; exit code 1 where a promise was broken."""
    asked = arguments(__doc__)
    with driver_of_a_run() as driver:
        found = long_run(driver, asked.seconds, asked.seed, asked.only)
    print(f"{'command':<24}{'steps':>7}{'kills':>7}{'--force':>9}{'over':>6}{'broken':>8}")
    for name, each in found.items():
        print(f"{name:<24}{each.steps:>7}{each.kills:>7}{each.forced:>9}{each.again:>6}{len(each.broken):>8}")
    total = Counter(
        {name: sum(getattr(each, name) for each in found.values()) for name in ("kills", "forced")}
    )
    broken = sum(len(each.broken) for each in found.values())
    print(f"{total['kills']} kills of {len(found)} commands, {broken} promises broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
