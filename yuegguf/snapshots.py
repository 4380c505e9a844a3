"""Stage 1's caches on disk, from time to time, so that a resume replays seconds and not the song.

A cache restored bit for bit gives the same tokens as an undisturbed run; computing it anew in
large batches would not, because batch shape changes the last bits of the arithmetic.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

from yuegguf.engine.base import TokenEngine
from yuegguf.errors import StorageError
from yuegguf.files import flush, storage_errors
from yuegguf.stages.stage1 import Mark
from yuegguf.tokenlog import TokenLog

COST_SHARE = 20
"""A snapshot is taken at most once in this many times the seconds that the last one took."""


class CacheFolder:
    """The `cache/` folder of a song; see `Snapshots` in stage 1."""

    def __init__(self, root: Path, log: TokenLog, key: str, seconds: float) -> None:
        """Keep a snapshot every `seconds` (0 = never), valid for engines opened with the same `key`."""
        self._root, self._log, self._key, self._seconds = root, log, key, seconds
        self._next = time.monotonic() + seconds
        self._mark = self._find()

    def latest(self) -> Mark | None:
        """The newest snapshot that fits the log and the engine."""
        return self._mark

    def offer(self, engine: TokenEngine, rows: int, mark: Mark) -> None:
        """Save when it is time. Raises StorageError."""
        started = time.monotonic()
        if not self._seconds or started < self._next:
            return
        self._log.sync()  # a mark must never be ahead of the log
        self._save(engine, rows, mark)
        taken = time.monotonic() - started
        self._next = time.monotonic() + max(self._seconds, COST_SHARE * taken)

    def restore(self, engine: TokenEngine, rows: int) -> None:
        """Load the latest snapshot's rows. Raises DamagedFile."""
        assert self._mark
        for row in range(rows):
            engine.load(row, self._root / _name(self._mark) / f"row{row}.bin")

    def _save(self, engine: TokenEngine, rows: int, mark: Mark) -> None:
        folder = self._root / _name(mark)
        with storage_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            sizes = []
            for row in range(rows):
                file = folder / f"row{row}.bin"
                engine.save(row, file)
                with storage_errors(file):
                    flush(file)
                    sizes.append(file.stat().st_size)
            note = {"section": mark.section, "codes": mark.codes, "first": mark.first}
            with storage_errors(folder):
                (folder / "mark.json").write_text(json.dumps({**note, "key": self._key, "sizes": sizes}))
                flush(folder / "mark.json")
                flush(folder)
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for old in self._root.iterdir():
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _find(self) -> Mark | None:
        marks = []
        for folder in self._root.glob("*-*"):
            with suppress(OSError, ValueError, KeyError, TypeError):  # an unfinished snapshot is not one
                note = json.loads((folder / "mark.json").read_text())
                mark = Mark(int(note["section"]), int(note["codes"]), int(note["first"]))
                sizes = [(folder / f"row{row}.bin").stat().st_size for row in range(len(note["sizes"]))]
                drawn = self._log.drawn(mark.section)
                if sizes == note["sizes"] and note["key"] == self._key and 0 < mark.codes <= len(drawn):
                    marks.append(mark)
        return max(marks, key=lambda mark: (mark.section, mark.codes), default=None)


def _name(mark: Mark) -> str:
    return f"{mark.section}-{mark.codes}"
