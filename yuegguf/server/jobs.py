"""The queue on disk: one SQLite file that holds the order, states and idempotency keys of songs.

The song folder holds everything that a song consists of; a row only says that someone wants it generated.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from yuegguf.server.sqlite_file import SqliteFile

State = Literal["new", "queued", "processing", "succeeded", "failed", "canceled"]
ACTIVE: tuple[State, ...] = ("new", "queued", "processing")
"""States of songs that the server still works on."""
Queue = Literal["songs", "audio", "models"]
"""Rows of one queue wait for each other; every queue has a worker process of its own."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    song TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    place REAL NOT NULL,
    refine INTEGER NOT NULL DEFAULT 0,
    queue TEXT NOT NULL DEFAULT 'songs',
    task TEXT NOT NULL DEFAULT '',
    result TEXT NOT NULL DEFAULT '',
    deaths INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    warnings TEXT NOT NULL DEFAULT '[]',
    uploads TEXT NOT NULL DEFAULT '',
    idempotency TEXT UNIQUE,
    digest TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    started REAL,
    completed REAL
)
"""
VERSION = 2
ADDED = {"queue": "'songs'", "task": "''", "result": "''"}
"""Columns that a file of version 1 lacks, and their defaults."""
MAX_WARNINGS = 50
"""Most warnings that a row keeps."""


@dataclass(frozen=True)
class Job:
    """A row of the queue."""

    song: str
    """Id of the song."""
    state: State
    place: float
    """Place in the order of the queue; the smallest comes first."""
    refine: bool
    """Whether the song goes on beyond the draft that it was asked for."""
    queue: Queue
    task: str
    """JSON of what is to be done, see `tasks.Task`; empty = generate the song."""
    result: str
    """JSON object of what the task made, or empty."""
    deaths: int
    """Times that the worker process ended while it worked on the song."""
    error: str
    """JSON object of the last error, or empty."""
    warnings: str
    """JSON array of sentences."""
    uploads: str
    """Name of the folder with the recordings of its request, or empty."""
    idempotency: str | None
    digest: str
    """Hash of the request that the idempotency key was used with."""
    created: float
    """Seconds since 1970, as are the following."""
    started: float | None
    completed: float | None


class RowChanges(TypedDict, total=False):
    """Columns that change beside the state; those of JSON as its values, empty = none."""

    deaths: int
    error: dict[str, Any] | Literal[""]
    warnings: list[str]
    result: dict[str, Any] | Literal[""]
    started: float
    completed: float


COLUMNS = ", ".join(column.name for column in fields(Job))


class JobStore(SqliteFile):
    """The rows of the queue; any thread may call it, and every change is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises DamagedFile, StorageError."""
        super().__init__(path, VERSION)

    def _make_tables(self, before: int) -> None:
        self._db.execute(SCHEMA)
        for column, default in ADDED.items() if before == 1 else ():
            self._db.execute(f"ALTER TABLE jobs ADD COLUMN {column} TEXT NOT NULL DEFAULT {default}")

    def all(self, *states: State) -> list[Job]:
        """The rows in these states, or all, in the order of the queue. Raises StorageError, DamagedFile."""
        marks = ", ".join("?" * len(states))
        condition = f"WHERE state IN ({marks})" if states else ""
        with self._errors():
            query = f"SELECT {COLUMNS} FROM jobs {condition} ORDER BY place, created"
            return [_job(row) for row in self._db.execute(query, states)]

    def waiting(self, queue: Queue) -> list[Job]:
        """The waiting rows of a queue, in its order."""
        return [job for job in self.all("queued") if job.queue == queue]

    def get(self, song: str) -> Job | None:
        """The row of a song, or None."""
        return self._first("song", song)

    def by_key(self, key: str) -> Job | None:
        """The row that an idempotency key was used for, or None."""
        return self._first("idempotency", key)

    def _first(self, column: str, value: str) -> Job | None:
        with self._errors():
            row = self._db.execute(f"SELECT {COLUMNS} FROM jobs WHERE {column} = ?", (value,)).fetchone()
            return None if row is None else _job(row)

    def insert(
        self, song: str, *, uploads: str = "", idempotency: str | None = None, digest: str = ""
    ) -> None:
        """Add a song in the state "new": its folder is about to appear."""
        self._add(song, "new", {"uploads": uploads, "idempotency": idempotency, "digest": digest})

    def insert_task(
        self,
        name: str,
        task: str,
        queue: Queue,
        *,
        uploads: str = "",
        idempotency: str | None = None,
        digest: str = "",
        warnings: Sequence[str] = (),
    ) -> None:
        """Add a task to the end of a queue; `name` is its id, or that of the song that it makes."""
        facts = {"uploads": uploads, "idempotency": idempotency, "digest": digest}
        facts["warnings"] = json.dumps([*dict.fromkeys(warnings)][:MAX_WARNINGS])
        self._add(name, "queued", {"task": task, "queue": queue, **facts})

    def _add(self, song: str, state: State, facts: Mapping[str, str | None]) -> None:
        with self._errors():
            row = {
                "song": song,
                "state": state,
                "place": self._last_place() + 1,
                "created": time.time(),
                **facts,
            }
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            self._db.execute(f"INSERT INTO jobs ({columns}) VALUES ({marks})", tuple(row.values()))

    def queue(self, song: str, *, refine: bool | None = None, task: str = "", queue: Queue = "songs") -> None:
        """Put a song at the end of a queue, to be generated or for a task, with a row if it has none."""
        with self._errors():
            values = {"song": song, "task": task, "queue": queue, "refine": refine}
            self._db.execute(
                "INSERT INTO jobs (song, state, place, task, queue, created, refine)"
                " VALUES (:song, 'queued', :place, :task, :queue, :now, coalesce(:refine, 0))"
                " ON CONFLICT (song) DO UPDATE SET state = 'queued', place = excluded.place,"
                " task = excluded.task, queue = excluded.queue, result = '', error = '', deaths = 0,"
                " started = NULL, completed = NULL, refine = coalesce(:refine, refine)",
                {**values, "place": self._last_place() + 1, "now": time.time()},
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make the changes of the block all or none; no other thread sees some of them."""
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def change(self, song: str, state: State, **changes: Unpack[RowChanges]) -> None:
        """Set the state of a song, and other columns."""
        self._update(song, state, changes, "")

    def take(self, song: str, before: State, after: State, **changes: Unpack[RowChanges]) -> bool:
        """Change as `change` does where the song is still in the state `before`; whether it was."""
        return self._update(song, after, changes, before)

    def _update(self, song: str, state: State, changes: RowChanges, before: State | Literal[""]) -> bool:
        columns = {
            name: json.dumps(value) if name in ("error", "warnings", "result") and value != "" else value
            for name, value in {"state": state, **changes}.items()
        }
        assignments = ", ".join(f"{name} = ?" for name in columns)
        condition = "song = ? AND (? = '' OR state = ?)"
        with self._errors():
            values = (*columns.values(), song, before, before)
            done = self._db.execute(f"UPDATE jobs SET {assignments} WHERE {condition}", values)
            return done.rowcount == 1

    def warn(self, song: str, sentence: str) -> None:
        """Add a warning to a song, once."""
        with self._errors():
            job = self.get(song)
            known = json.loads(job.warnings) if job else []
            if job and sentence not in known and len(known) < MAX_WARNINGS:
                self.change(song, job.state, warnings=[*known, sentence])

    def move(self, song: str, position: int) -> None:
        """Put a waiting song at a position of its queue, from 0 on; the rows in work stay before it."""
        with self._errors():
            job = self.get(song)
            rows = self.waiting(job.queue) if job else []
            waiting = [each.song for each in rows if each.song != song]
            waiting.insert(position, song)
            places = accumulate(
                (each.place for each in rows),  # those that the rows have, and no two the same
                lambda before, place: max(place, math.nextafter(before, math.inf)),
            )
            with self.together():
                for place, name in zip(places, waiting, strict=False):
                    self._db.execute("UPDATE jobs SET place = ? WHERE song = ?", (place, name))

    def delete(self, songs: Sequence[str]) -> None:
        """Remove the rows of songs."""
        with self._errors():
            self._db.executemany("DELETE FROM jobs WHERE song = ?", [(song,) for song in songs])

    def _last_place(self) -> float:
        place = self._db.execute("SELECT max(place) FROM jobs").fetchone()[0]
        return float(place or 0)


def _job(row: Sequence[Any]) -> Job:
    values = dict(zip((column.name for column in fields(Job)), row, strict=True))
    return Job(**{**values, "refine": bool(values["refine"])})
