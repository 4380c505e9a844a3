"""A SQLite file that any thread may use: opened once, checked, with errors of ours."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.errors import DamagedFile, StorageError


class SqliteFile:
    """An open file; every change is on disk when the call that made it returns."""

    def __init__(self, path: Path, version: int) -> None:
        """Open or make the file, and bring it to `version`. Raises DamagedFile, StorageError."""
        self._path, self._lock = path, threading.RLock()
        with self._errors():
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            before = self._db.execute("PRAGMA user_version").fetchone()[0]
            if before > version:
                raise DamagedFile(f"{path} was made by a newer yuegguf", "update yuegguf to open it")
            self._db.execute("BEGIN IMMEDIATE")
            self._make_tables(before)
            self._db.execute(f"PRAGMA user_version = {version}")
            self._db.execute("COMMIT")

    def _make_tables(self, before: int) -> None:
        """Make the tables, or bring those of version `before` up to date; 0 = there are none."""
        raise NotImplementedError

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Hold the lock, and turn SQLite's errors into YueErrors, apart from those of a wrong statement."""
        with self._lock:
            try:
                yield
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                raise  # a conflict, or a fault of the caller: the disk and the file are whole
            except sqlite3.OperationalError as error:
                raise StorageError(
                    f"{self._path} could not be written ({error})", "check the disk"
                ) from error
            except sqlite3.DatabaseError as error:
                raise DamagedFile(
                    f"{self._path} is damaged ({error})", "move it away; the songs beside it are whole"
                ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
