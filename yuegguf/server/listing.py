"""Pages of the list of songs: put in order unopened, so that only those of the page are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yuegguf.server.jobs import Job, Queue
from yuegguf.server.problems import HttpProblem
from yuegguf.server.shelf import ROW_STATUSES, created_at

IN_QUEUES = "active"
"""Status to ask for songs that a queue of the server holds, in work or waiting, as its rows alone say."""
ShownSong = Callable[[str, Path, Job | None], dict[str, Any]]
"""Gives the JSON object of a song for its id, folder and row. Raises FileNotFoundError once it is deleted."""


@dataclass(frozen=True)
class PageChoice:
    """Songs of the list that a client asks for."""

    limit: int
    """Most songs."""
    status: str | None = None
    """Status that they have, or `IN_QUEUES`; None = any."""
    after: str | None = None
    """Id of the song behind which the page begins; None = it begins with the newest."""


def page_of(
    folders: Mapping[str, Path], rows: Mapping[str, Job], choice: PageChoice, shown: ShownSong
) -> dict[str, Any]:
    """The JSON object of a page of songs, the newest first. Raises HttpProblem 404 for an unknown `after`.

    Songs that do not stand on the page are opened only where their status is asked for and no row says it.
    """
    data: list[dict[str, Any]] = []
    for song in _behind(_newest_first(folders, rows), choice.after):
        row = rows.get(song)
        if not _may_have(row, choice.status):
            continue
        if choice.status is None and len(data) == choice.limit:
            return {"object": "list", "data": data, "has_more": True}
        with suppress(FileNotFoundError):  # deleted since it was listed
            facts = shown(song, folders[song], row)
            if choice.status in (None, IN_QUEUES, facts["status"]):
                data.append(facts)
        if len(data) > choice.limit:
            return {"object": "list", "data": data[:-1], "has_more": True}
    return {"object": "list", "data": data, "has_more": False}


def positions(rows: Iterable[Job]) -> dict[str, int]:
    """Position in its queue of each waiting row; the rows come in their order."""
    counts: Counter[Queue] = Counter()
    found: dict[str, int] = {}
    for row in rows:
        if row.state == "queued":
            found[row.song] = counts[row.queue]
            counts[row.queue] += 1
    return found


def _newest_first(folders: Mapping[str, Path], rows: Mapping[str, Job]) -> list[str]:
    times: dict[str, float] = {}
    for song, folder in folders.items():
        with suppress(FileNotFoundError):  # deleted since it was listed
            times[song] = created_at(rows.get(song), folder)
    return sorted(times, key=lambda song: (times[song], song), reverse=True)


def _behind(songs: list[str], after: str | None) -> list[str]:
    if after is None:
        return songs
    if after not in songs:
        raise HttpProblem(404, "no_such_song", "there is no such song to list from", "list from the first")
    return songs[songs.index(after) + 1 :]


def _may_have(row: Job | None, status: str | None) -> bool:
    """Whether a song may have a status, as far as its row says."""
    if status is None:
        return True
    if row is not None and row.state in ROW_STATUSES:
        return status in (IN_QUEUES, ROW_STATUSES[row.state])
    return status not in (IN_QUEUES, "starting", "queued")  # these come of a row alone
