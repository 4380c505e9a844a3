"""Song folders that are careless in one way, which a driver must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.song import folder
from yuegguf.song.kept_part import KeptPart, read_kept_part


def install(way: str) -> Callable[[], None]:
    """Let this process write over song.json itself, forget what a song goes on from, or claim nothing."""
    ways = {"write": ("replacing", _over), "unlocked": ("locked_without_lease", _unclaimed)}
    if way == "forget":
        folder.SongFolder.load_kept_part = _any_base
    else:
        setattr(folder, *ways[way])
    return lambda: None


@contextmanager
def _over(target: Path) -> Iterator[Path]:
    yield target


@contextmanager
def _unclaimed(_folder: Path) -> Iterator[None]:
    yield


def _any_base(folder: folder.SongFolder) -> KeptPart | None:
    return read_kept_part(folder.path)
