"""Mutated files for a reader: each is read or refused in words, in time, within bounds, and harms nothing."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
from mutators import CANARY, FOLDER, Content, Link, binary, by_suffix, reshaped
from song_examples import all_content

from yuegguf.errors import YueError

SECONDS = 10.0
"""Longest time for one input."""
MEMORY = 1 << 30
"""Bytes of address space that a child may add to what it begins with."""
GROWTH = 256 << 20
"""Bytes by which one input, of at most some hundred kilobytes, may raise the peak of resident memory."""
SENTENCE = 2000
"""Characters of the longest sentence about a file."""
AT_ONCE = 200
"""Inputs of one child."""
RESHAPED = 0.15
"""Share of changes that add, remove or replace whole files, for readers of folders."""

VARIABLES = ("HOME", "YUEGGUF_MODELS_DIR", "YUEGGUF_VOICES_DIR", "YUEGGUF_CACHE_DIR", "XDG_DATA_HOME")
"""Names of the user's folders."""


@dataclass(frozen=True)
class Target:
    """A reader, and what it reads."""

    name: str
    seeds: Callable[[Path], list[Content]]
    """Makes valid inputs in an empty folder."""
    read: Callable[[Path], object]
    """Reads an input's folder through the public function; raises YueError to refuse it."""
    only: str = ""
    """Ending of the names that are mutated; empty for all."""
    folder: bool = False
    """Whether whole files come and go too."""


Kind = Literal["read", "refused", "finding"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of one input."""

    kind: Kind
    what: str = ""
    """The fault of a finding: the exception and the line of ours that raised it."""


@dataclass
class Report:
    """Counts of one reader's inputs."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, Outcome]] = field(default_factory=list)
    """Numbers of inputs and their outcomes."""

    def add(self, number: int, outcome: Outcome) -> None:
        """Count one more input."""
        self.counts[outcome.kind] += 1
        if outcome.kind == "finding":
            self.findings.append((number, outcome))


class TooLong(BaseException):
    """An input takes more than its time; no reader may catch it."""


class Place:
    """A folder with the input, the watched folder beside it, and every reader's seeds."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.input, self.watched = self.root / "input", self.root / "mine"
        self.home = self.root / "home"
        self._seeds: dict[str, list[Content]] = {}
        (self.root / "seeds").mkdir()
        self.watch()

    def watch(self) -> None:
        """Make the watched folders anew."""
        for folder in (self.watched, self.home):
            shutil.rmtree(folder, ignore_errors=True)
        (self.watched / "deep").mkdir(parents=True)
        self.home.mkdir()
        for name in ("canary", "deep/row0.bin", "mix.wav", "song.json"):
            (self.watched / name).write_text("mine")
        self._before = self._state()

    def seeds(self, target: Target) -> list[Content]:
        """The valid inputs of a reader, made once."""
        if target.name not in self._seeds:
            folder = self.root / "seeds" / target.name.replace("/", "-")
            folder.mkdir()
            self._seeds[target.name] = target.seeds(folder)
        return self._seeds[target.name]

    @property
    def environment(self) -> dict[str, str]:
        """The user's folders, which lie in the watched place meanwhile."""
        return dict.fromkeys(VARIABLES, str(self.home))

    def write(self, content: Content) -> None:
        """Lay an input down in the place of the last one."""
        shutil.rmtree(self.input, ignore_errors=True)
        self.input.mkdir()
        for name, data in content.items():
            path = self.input / name
            with suppress(OSError):  # below a file, or a link that was put there
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(data, Link):
                    path.symlink_to(self.watched / data.target)
                elif data is FOLDER:
                    path.mkdir()
                elif not path.parent.resolve().is_relative_to(self.input):
                    continue
                else:
                    path.write_bytes(data.replace(CANARY.encode(), str(self.watched / "canary").encode()))

    def spoilt(self) -> str:
        """Changes outside the input; empty if there are none."""
        after = self._state()
        changed = [name for name in {*self._before, *after} if self._before.get(name) != after.get(name)]
        if changed:
            self.watch()
        return f"changed outside the input: {sorted(changed)}" if changed else ""

    def _state(self) -> dict[str, bytes | str]:
        return {
            **all_content(self.watched),
            **all_content(self.home),
            "": " ".join(sorted(path.name for path in self.root.iterdir() if path != self.input)),
        }


def mutated(target: Target, seeds: Sequence[Content], seed: int, number: int) -> Content:
    """The input of this number."""
    chance = random.Random(f"{seed}/{target.name}/{number}")
    valid = chance.choice(seeds)
    content = dict(valid)
    for _ in range(chance.choice((1, 1, 1, 2))):
        names = [n for n in sorted(content) if isinstance(content[n], bytes) and n.endswith(target.only)]
        if not names or (target.folder and chance.random() < RESHAPED):
            reshaped(content, chance)
            if not content:
                break
            continue
        name = chance.choice(names)
        kind = name[name.rfind(".") :]
        others = [d for each in seeds for n, d in each.items() if isinstance(d, bytes) and n.endswith(kind)]
        whole = content[name] is valid.get(name)  # only what is still valid can be changed from within
        mutate = chance.choice(by_suffix(name) if whole else (binary,))
        content[name] = mutate(content[name], chance, others)  # type: ignore[arg-type]
    return content


def attempt(target: Target, content: Content, place: Place, seconds: float = SECONDS) -> Outcome:
    """Read one input, in this process."""
    place.write(content)
    before = _peak()
    outcome = _read(target, place.input, seconds)
    if harm := place.spoilt():
        return Outcome("finding", harm)
    if outcome.kind != "finding" and _peak() - before > GROWTH:
        return Outcome("finding", f"took more than {GROWTH >> 20} MiB")
    return outcome


def _peak() -> int:
    """The most resident memory so far, in bytes; macOS counts bytes, Linux KiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _read(target: Target, folder: Path, seconds: float) -> Outcome:
    try:
        with _limited(seconds), warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # as of numbers that no type can hold
            target.read(folder)
        return Outcome("read")
    except TooLong:
        return Outcome("finding", f"took more than {seconds:g} s")
    except YueError as error:
        return _refusal(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and pytest's own are faults too
        return Outcome("finding", _signature(error))


def _refusal(error: YueError) -> Outcome:
    """A refusal, or a finding where it is no sentence."""
    if "unexpected" in str(error).lower():
        return Outcome("finding", f"says unexpected: {error}"[:200])
    if len(str(error)) > SENTENCE:
        return Outcome("finding", f"{len(str(error))} characters: {_signature(error)[:200]}")
    return Outcome("refused")


def _signature(error: BaseException) -> str:
    """The kind of an exception, and the innermost lines of ours that it passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    ours = [f for f in frames if any(f"/{p}/" in f.filename for p in ("yuegguf", "convert", "onnx_codec"))]
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in (ours or frames)[:-4:-1])
    return f"{type(error).__name__} in {where} ({str(error)[:100]!r})"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise TooLong after a time."""

    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_process(target: Target, place: Place, seed: int, count: int) -> Report:
    """Try so many inputs in this process, where none that ends it is expected."""
    report, seeds = Report(), place.seeds(target)
    for number in range(count):
        report.add(number, attempt(target, mutated(target, seeds, seed, number), place))
    return report


def in_children(target: Target, place: Place, seed: int, seconds: float, report: Report) -> None:
    """Go on with inputs in children, for a time."""
    place.seeds(target)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _child(target, place, seed, until, report)


def _child(target: Target, place: Place, seed: int, until: float, report: Report) -> None:
    """Add the outcomes of one child's inputs, until its number, the time, or its end."""
    here, there = multiprocessing.Pipe(duplex=False)
    first = report.counts.total()
    child = multiprocessing.get_context("fork").Process(
        target=_serve, args=(target, place, seed, first, until, there), daemon=True
    )
    child.start()
    there.close()
    number = first
    with suppress(EOFError):
        while True:
            if not here.poll(2 * SECONDS):
                report.add(number, Outcome("finding", f"never returned within {2 * SECONDS:g} s"))
                break
            outcome = here.recv()
            if outcome is None:
                number = -1
                break
            report.add(number, Outcome(*outcome))
            number += 1
        child.kill() if number >= 0 else None
        child.join()
        return
    child.join()
    report.add(number, Outcome("finding", f"ended the process ({child.exitcode})"))


def _serve(target: Target, place: Place, seed: int, first: int, until: float, pipe: Any) -> None:
    """Read inputs and send their outcomes; a finding ends the child, whose memory may be spoilt."""
    faulthandler.disable()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    bound_memory()
    seeds = place.seeds(target)
    for number in range(first, first + AT_ONCE):
        outcome = attempt(target, mutated(target, seeds, seed, number), place)
        pipe.send((outcome.kind, outcome.what))
        if outcome.kind == "finding" or time.monotonic() > until:
            break
    pipe.send(None)


def bound_memory() -> None:
    """Give this process MEMORY more address space, and no more."""
    most = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
