"""New songs in the queue: their folder and their row are there together, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from yuegguf.errors import YueError
from yuegguf.server.jobs import JobStore
from yuegguf.song.folder import SongFolder

Begin = Callable[[Callable[[Path], None]], list[SongFolder]]
"""Makes the folders of a song; calls what it is given with the song's path before anything is there."""
Noted = Callable[[str], None]
"""Called with the id of a song."""


def nobody(_song: str) -> None:
    """Do nothing with the id of a song."""


def queue_song(
    store: JobStore, begin: Begin, insert: Noted, warnings: Sequence[str], *, noted: Noted = nobody
) -> str:
    """Queue the song whose folders `begin` makes; its id. Raises YueError, and nothing is left of it then.

    `insert` adds its row in the state "new"; then `noted` is called. One song is queued at a time.
    """
    store.delete([job.song for job in store.all("new")])  # rows that a full disk kept from being removed
    named: list[Path] = []

    def note(path: Path) -> None:  # first, so that a killed server never makes it twice
        insert(path.name)
        named.append(path)
        noted(path.name)

    try:
        begin(note)
    except BaseException:
        _delete_rows(store, named)
        raise
    try:
        for warning in warnings:
            store.warn(named[0].name, warning)
        store.take(named[0].name, "new", "queued")
    except BaseException:
        shutil.rmtree(named[0], ignore_errors=True)
        _delete_rows(store, named)
        raise
    return named[0].name


def _delete_rows(store: JobStore, songs: Sequence[Path]) -> None:
    with suppress(YueError):  # the first error says what is wrong
        store.delete([song.name for song in songs])
