"""A song folder that writes song.json without care: what a driver of kills must catch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf import song


def install() -> Callable[[], None]:
    """Let this process write over the file itself."""

    @contextmanager
    def over(target: Path) -> Iterator[Path]:
        yield target

    song.replacing = over
    return lambda: None
