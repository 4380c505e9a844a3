"""Structure of the package: rooms, levels, arrows, and the paths of five calls through it.

    PYTHONPATH=tests/support:. python tests/support/structure.py

A room is a package or a module directly below `yuegguf`; an arrow, a room that imports another; levels, the
longest chain of arrows. A walk lists the functions of `yuegguf` in the order in which they are first called:
a move goes from a room to another, a climb is a move into a room that imports the one before.
"""

from __future__ import annotations

import ast
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import FrameType

import cheap
import numpy as np
import soundfile

import yuegguf
from yuegguf.models.resolve import ModelChoice, nano_models, resolve

PACKAGE = Path(__file__).resolve().parents[2] / "yuegguf"


def room(module: str) -> str:
    """The part of the package that a module, without `yuegguf.` before it, belongs to."""
    return module.partition(".")[0]


def modules() -> dict[str, str]:
    """Dotted name → source, of all but the package's own __init__."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = path.read_text("utf-8")
    return found


def targets(source: str, known: set[str]) -> Iterator[str]:
    """Modules of the package that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "yuegguf":
            base = (node.module or "").removeprefix("yuegguf").removeprefix(".")
            for alias in node.names:
                longer = f"{base}.{alias.name}".removeprefix(".")
                if longer in known:
                    yield longer
                elif base:
                    yield base


def arrows() -> set[tuple[str, str]]:
    """Each room with each other one that it imports."""
    sources = modules()
    pairs = {(room(n), room(t)) for n, s in sources.items() for t in targets(s, set(sources))}
    return {(a, b) for a, b in pairs if a != b}


def levels(pairs: set[tuple[str, str]]) -> int:
    """Rooms in the longest chain of arrows."""
    below: dict[str, set[str]] = {}
    for a, b in pairs:
        below.setdefault(a, set()).add(b)
        below.setdefault(b, set())
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            heights[name] = 1 + max(map(height, below[name]), default=0)
        return heights[name]

    return max(map(height, below))


class Walk:
    """The functions of the package that are called, in order of their first call."""

    def __init__(self, until: str = "") -> None:
        """`until` names the function that ends the walk."""
        self.seen: list[tuple[str, str]] = []
        """Module and function."""
        self.until, self.start = until, ""
        self.begun = self.over = False

    @contextmanager
    def recorded(self, start: str = "") -> Iterator[None]:
        """See what is called, from the first call of `start` on."""
        self.begun, self.over, self.start = not start, False, start
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or self.over:
            return
        file = frame.f_code.co_filename
        if not file.startswith(str(PACKAGE)):
            return
        name = frame.f_code.co_qualname
        if "<" in name.replace("<locals>", "") or name.split(".")[-1].startswith("__"):
            return
        module = ".".join(Path(file).relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name == self.start:
            self.begun = True
        if self.begun and (module, name) not in self.seen:
            self.seen.append((module, name))
        if self.until and name == self.until:
            self.over = True

    def figures(self, pairs: set[tuple[str, str]]) -> tuple[int, int, int, int]:
        """Functions, rooms, moves, climbs."""
        rooms = [room(m) for m, _ in self.seen if room(m) not in ("errors", "progress")]
        moves = [(a, b) for a, b in pairwise(rooms) if a != b]
        above = reach(pairs)
        return len(self.seen), len(set(rooms)), len(moves), sum((b, a) in above for a, b in moves)


def reach(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Each room with all that it imports, directly or not."""
    closed = set(pairs)
    while True:
        more = {(a, d) for a, b in closed for c, d in closed if b == c} - closed
        if not more:
            return closed
        closed |= more


def main() -> None:
    """Print the figures of the packages, and of walks through cheap engines."""
    cheap.install(setattr)
    pairs = arrows()
    per_package = Counter(room(name) for name in modules())
    print("modules per package:", ", ".join(f"{name} {count}" for name, count in per_package.most_common()))
    rooms = {name for pair in pairs for name in pair}
    print(f"{len(rooms)} rooms, {levels(pairs)} levels, {len(pairs)} arrows between rooms")
    for name, walk in walks():
        functions, visited, moves, climbs = walk.figures(pairs)
        print(f"{name:<24}{functions:>4} functions {visited:>3} rooms {moves:>4} moves {climbs:>3} climbs")


def walks() -> Iterator[tuple[str, Walk]]:
    """Five calls, each as a walk; a first song is generated before, so that imports are done."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recording = folder / "recording.wav"
        soundfile.write(recording, np.random.default_rng(1).standard_normal(16_000 * 8) / 10, 16_000)
        plain = yuegguf.SongRequest("pop", "[verse]\nHello\n\n[chorus]\nAgain\n", segment_seconds=6, seed=1)
        styled = replace(plain, reference=yuegguf.Reference(mix=str(recording), end=5))
        song = yuegguf.generate(plain, output_dir=folder / "first")
        root, nano = folder / "models", nano_models()
        (root / "xcodec").mkdir(parents=True)
        shutil.copy(nano.stage1, root / "en-cot-F16.gguf")
        shutil.copy(nano.stage2, root / "s2-general-F16.gguf")
        for file in nano.codec.glob("*.onnx"):
            shutil.copy(file, root / "xcodec")
        yield (
            "lyrics → prompt ids",
            walked(lambda: yuegguf.generate(plain, output_dir=folder / "a"), "", "build"),
        )
        yield (
            "codes → wav",
            walked(lambda: yuegguf.generate(plain, output_dir=folder / "b"), "SongFolder.save_stage1"),
        )
        yield "name → models", walked(lambda: resolve(ModelChoice(stage1="en-cot", models_dir=root)))
        yield (
            "reference → codes",
            walked(
                lambda: yuegguf.generate(styled, output_dir=folder / "c"), "", "SongFolder.save_reference"
            ),
        )
        (song.folder / "stage2.npz").unlink()
        yield "resume", walked(lambda: yuegguf.resume(song.folder))
        yield "generate", walked(lambda: yuegguf.generate(plain, output_dir=folder / "d"))


def walked(call: Callable[[], object], start: str = "", until: str = "") -> Walk:
    """The walk of a call, from the first call of the function `start` to that of `until`."""
    walk = Walk(until)
    with walk.recorded(start):
        call()
    return walk


if __name__ == "__main__":
    main()
