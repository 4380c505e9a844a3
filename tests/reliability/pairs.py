"""Two commands at once on one folder: the first is held in its middle while the second runs.

    PYTHONPATH=tests/support:. python tests/reliability/pairs.py --seconds 120 --seed 1
    PYTHONPATH=tests/support:. python tests/reliability/pairs.py --seconds 60 --seed 1 --only extend

The first command stops itself at a step that it takes on the disk, reading included, the second runs to its
end, then the first goes on. Each must end well or in one sentence, and the folder must be that of the two
commands one after the other, in one order or the other. A command that was refused because the folder is
being worked on is run again, after the other.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from crashing import Driver, driver_of_a_run
from disk_steps import HOLD
from helpers import Result
from long_runs import Tried, arguments, report
from promises import Broken, Content, check_sentence, content
from writers import CODEC, MACHINE, Writer, within
from zygote import Moment, Zygote, zygote

BUSY = "being worked on"
EXTEND = f"extend @song/take-1 --retake 1 --seed 3 -o @songs {' '.join(map(str, MACHINE))}"
COMMANDS = {
    writer.name: writer
    for writer in (
        Writer("resume", within("resume @song/take-1 --threads 1")),
        Writer("refine", within("refine @song/take-1 --threads 1")),
        Writer("render", within("render @song/take-1 --mix vocos --format flac --threads 1")),
        Writer("takes keep", within("takes keep @song 1 --threads 1")),
        Writer("takes keep --delete-others", within("takes keep @song 2 --delete-others --threads 1")),
        Writer("bundle", within("bundle @song/take-1 -o @song.zip --force")),
        Writer("export", within("export @song/take-1 --force")),
        Writer("extend", within(EXTEND)),
        Writer("decode", within(f"decode @song/take-1 -o @out --force {CODEC}")),
    )
}
STARTS = {
    "drafts": None,
    "one half refined": Moment(2, "yuegguf.song.folder:SongFolder.save_chunk"),
    "one half rendered": Moment(2, "yuegguf.pipeline.write_audio:write_audio"),
    "one finished": Moment(0),
}
"""State of the first of two takes before the commands → moment at which `takes keep` is killed, or None."""


class Pairs:
    """Runs pairs of commands in the driver's folder."""

    def __init__(self, driver: Driver, other: Zygote) -> None:
        self.driver, self.other = driver, other
        self._orders: dict[tuple[str, ...], Content] = {}
        self._steps: dict[tuple[str, str], int] = {}

    def lay(self, start: str, *before: str) -> None:
        """The folder that commands begin with, after some of them. Raises Broken."""
        work, kept = self.driver.work, self.driver.root / "starts" / "+".join((start, *before))
        shutil.rmtree(work, ignore_errors=True)
        if kept.exists():
            shutil.copytree(kept, work)
            return
        if before:
            self.lay(start, *before[:-1])
            name = before[-1]
            ended(name, self._first(name))
            if len(before) == 1:
                self._steps[start, name] = len(json.loads(self.driver.report.read_text())["steps"])
        else:
            self._begin(start)
        if len(before) < 2:
            shutil.copytree(work, kept)

    def _begin(self, start: str) -> None:
        self.driver.begin(Writer("", within(""), "takes"))
        moment = STARTS[start]
        if moment is not None:
            line = ("takes", "keep", self.driver.work / "song", 1, "--threads", 1)
            code = self.driver.program.run(*line, moment=moment if moment.count else None).code
            if (code < 0) != bool(moment.count):
                raise Broken(f"{start} cannot be made: {code}")

    def _first(self, name: str, at: int = 0, meanwhile: str = "", ends: list[Result] | None = None) -> Result:
        def stopped() -> None:
            assert ends is not None
            ends.append(self._second(meanwhile))

        writer = COMMANDS[name]
        line = writer.line(self.driver.work)
        return self.driver.run(writer, line, at, HOLD, reads=True, stopped=stopped)

    def _second(self, name: str) -> Result:
        around = {"folder": str(self.driver.work)}
        before = [*self.driver.ways(), ("surroundings", around)]
        return self.other.run(*COMMANDS[name].line(self.driver.work), before=before)

    def order(self, start: str, *names: str) -> Content:
        """Files after commands one after the other. Raises Broken."""
        if (start, *names) not in self._orders:
            self.lay(start, *names)
            self._orders[start, *names] = content(self.driver.work)
        return self._orders[start, *names]

    def steps(self, start: str, name: str) -> int:
        """Number of steps that a command takes there alone. Raises Broken."""
        if (start, name) not in self._steps:
            self.order(start, name)
        return self._steps[start, name]

    def attempt(self, start: str, first: str, second: str, at: int) -> str:
        """Hold the first command at a step while the second runs; how they ended. Raises Broken."""
        allowed = {(first, second): self.order(start, first, second)}
        allowed[second, first] = self.order(start, second, first)
        self.lay(start)
        ends: list[Result] = []
        begun = self._first(first, at, second, ends)
        if len(ends) != 1:
            raise Broken(f"it was not held: {begun.err}")
        busy = [each for each, result in ((first, begun), (second, ends[0])) if BUSY in result.err]
        ended(first, begun)
        ended(second, ends[0])
        if len(busy) == 2 and first != second:
            raise Broken("both were refused")
        if busy:
            again = second if BUSY in ends[0].err else first
            ended(again, self._second(again))
            allowed = {key: value for key, value in allowed.items() if key[1] == again}
        now = content(self.driver.work)
        if now not in allowed.values():
            raise Broken(f"no order gives this: {differences(now, allowed)}\n{begun.err}{ends[0].err}")
        if busy:
            return "one waited"
        return "both ended well" if begun.code in (0, 6) and ends[0].code in (0, 6) else "one was refused"


def ended(name: str, result: Result) -> None:
    """A command ended well or in a sentence. Raises Broken."""
    if result.code not in (0, 6):
        try:
            check_sentence(result)
        except Broken as error:
            raise Broken(f"{name}: {error}") from error


def differences(now: Content, allowed: dict[tuple[str, str], Content]) -> dict[str, list[str]]:
    """Names that differ from each order."""
    return {
        " then ".join(order): sorted(
            name for name in now.keys() | then.keys() if now.get(name) != then.get(name)
        )
        for order, then in allowed.items()
    }


@contextmanager
def pairing(driver: Driver) -> Iterator[Pairs]:
    """A driver of pairs, with a second process beside the driver's own."""
    with zygote(driver.root / "other", cheap=True) as other:
        yield Pairs(driver, other)


def long_run(pairs: Pairs, seconds: float, seed: int, only: str) -> dict[str, Tried]:
    """Every pair from every start, at steps by chance, until the time is over or each was tried once."""
    chance, found = random.Random(seed), {start: Tried() for start in STARTS}
    every = [
        (start, first, second)
        for start in STARTS
        for first in COMMANDS
        for second in COMMANDS
        if only in first or only in second
    ]
    end = time.monotonic() + seconds
    for start, first, second in chance.sample(every, len(every)):
        if time.monotonic() > end:
            break
        at = 0
        try:
            at = chance.randint(1, pairs.steps(start, first))
            found[start].ends[pairs.attempt(start, first, second, at)] += 1
        except Broken as error:
            found[start].broken.append(f"{first} at step {at}, {second}: {error}")
            print(f"{start}: {found[start].broken[-1]}", file=sys.stderr)
    return found


def main() -> int:
    """Run from the command line; exit code 1 where a promise was broken."""
    asked = arguments(__doc__)
    with driver_of_a_run() as driver, pairing(driver) as pairs:
        found = long_run(pairs, asked.seconds, asked.seed, asked.only)
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
