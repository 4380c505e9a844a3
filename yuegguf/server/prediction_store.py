"""Predictions on disk: what a client of Replicate's API asked for besides the song itself."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from pathlib import Path

from yuegguf.server.sqlite_file import SqliteFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS predictions (
    song TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    input TEXT NOT NULL,
    root TEXT NOT NULL,
    webhook TEXT NOT NULL,
    events TEXT NOT NULL
)
"""
VERSION = 1


@dataclass(frozen=True)
class PredictionRow:
    """A prediction; its id is that of its song."""

    song: str
    model: str
    version: str
    input: str
    """JSON object, as it was sent."""
    root: str
    """URL of the server as the client wrote it, without a slash at its end."""
    webhook: str = ""
    """URL to notify; empty = none, or its last notice needs no further try."""
    events: str = ""
    """Events to notify of, separated by commas."""


COLUMNS = ", ".join(column.name for column in fields(PredictionRow))


class PredictionStore(SqliteFile):
    """The rows of predictions."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises DamagedFile, StorageError."""
        super().__init__(path, VERSION)

    def _make_tables(self, before: int) -> None:
        self._db.execute(SCHEMA)

    def add(self, row: PredictionRow) -> None:
        """Add a prediction."""
        marks = ", ".join("?" * len(fields(PredictionRow)))
        with self._errors():
            self._db.execute(f"INSERT OR REPLACE INTO predictions ({COLUMNS}) VALUES ({marks})", astuple(row))

    def get(self, song: str) -> PredictionRow | None:
        """The prediction of a song, or None."""
        with self._errors():
            query = f"SELECT {COLUMNS} FROM predictions WHERE song = ?"
            row = self._db.execute(query, (song,)).fetchone()
        return None if row is None else PredictionRow(*row)

    def with_webhooks(self) -> list[PredictionRow]:
        """The predictions whose webhook is still to be notified."""
        with self._errors():
            rows = self._db.execute(f"SELECT {COLUMNS} FROM predictions WHERE webhook != ''").fetchall()
        return [PredictionRow(*row) for row in rows]

    def end_webhook(self, song: str) -> None:
        """Note that a prediction's webhook needs no further notice."""
        with self._errors():
            self._db.execute("UPDATE predictions SET webhook = '' WHERE song = ?", (song,))

    def delete(self, song: str) -> None:
        """Remove the prediction of a song."""
        with self._errors():
            self._db.execute("DELETE FROM predictions WHERE song = ?", (song,))
