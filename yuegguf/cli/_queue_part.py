"""A part of a queue, for one of several machines: `run --queue songs.yaml --part 0/8`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from yuegguf.errors import FolderBusy
from yuegguf.files.atomic import is_locked, locked_folder

MOST_PARTS = 1000
Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """Every `count`-th song of a queue, beginning with that of `index`, which counts from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, items: Sequence[Item]) -> list[Item]:
        """The items of this part."""
        return list(items[self.index :: self.count])


class PartType(click.ParamType[Part]):
    """A part, written 0/8."""

    name = "part"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Part:
        """Read a part. Raises UsageError."""
        if isinstance(value, Part):
            return value
        match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", str(value))
        if match is None or not 0 <= int(match[1]) < int(match[2]) <= MOST_PARTS:
            self.fail(f"{str(value)!r:.80} is no part such as 0/8, which is the first of eight", param, ctx)
        return Part(int(match[1]), int(match[2]))


def notes_file(queue: Path, part: Part | None) -> Path:
    """The file with the notes of a queue, or of a part of it."""
    return queue.with_name(f"{queue.name}{_suffix(part)}.state.json")


def all_notes(queue: Path) -> list[Path]:
    """The files with notes of a queue that are there, those of all its parts too."""
    return _matching(queue, r"(?:\.[0-9]+-of-[0-9]+)?\.state\.json")


@contextmanager
def locked_queue(queue: Path, part: Part | None) -> Iterator[None]:
    """Lock a queue, or a part of it while others of the same division may be worked on.

    Raises FolderBusy.
    """
    busy = f"the queue {queue} is being worked on by another yuegguf"
    with locked_folder(queue.parent, f"{queue.name}{_suffix(part)}.lock", busy):
        # after the lock: of two commands that begin at once, one sees the other
        for lock in _matching(queue, r"(?:\.[0-9]+-of-[0-9]+)?\.lock"):
            division = lock.name[len(queue.name) :].removesuffix(".lock").partition("-of-")[2]
            if part is None or division != str(part.count):
                own = lock.name == f"{queue.name}{_suffix(part)}.lock"
                if not own and is_locked(queue.parent, lock.name):
                    raise FolderBusy(busy, "wait for it to end")
        yield


def _suffix(part: Part | None) -> str:
    return "" if part is None else f".{part.index}-of-{part.count}"


def _matching(queue: Path, pattern: str) -> list[Path]:
    names = re.compile(re.escape(queue.name) + pattern)
    return sorted(path for path in queue.parent.iterdir() if names.fullmatch(path.name))
