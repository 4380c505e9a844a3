"""Stage 1's caches on disk, from time to time, so that a resume replays seconds and not the song.

A cache restored bit for bit gives the same tokens as an undisturbed run; computing it anew in
large batches would not, because batch shape changes the last bits of the arithmetic.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.files import typed_json
from yuegguf.files.atomic import flush, flush_folder, storage_errors
from yuegguf.files.hashing import sha256_of
from yuegguf.files.steady import check_steady
from yuegguf.lm.protocol import TokenEngine
from yuegguf.song.token_log import TokenLog
from yuegguf.stages.stage1_task import Checkpoint

MIN_GAP_FACTOR = 20
"""A snapshot is taken at most once in this many times the seconds that the last one took."""


@dataclass(frozen=True)
class SnapshotRecord:
    """What mark.json says of a snapshot."""

    section: int
    codes: int
    first: int
    attempt: int
    """How often the section had been begun anew."""
    key: str
    """Model and options of the engine."""
    hashes: tuple[str, ...]
    """SHA-256 of each row's file."""


class KvSnapshots:
    """The `cache/` folder of a song; see `Snapshots` in stage 1."""

    def __init__(
        self,
        root: Path,
        log: TokenLog,
        key: str,
        seconds: float,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Keep a snapshot every `seconds` (0 = never), valid for engines opened with the same `key`.

        A snapshot is a convenience: where it cannot be written or read, `warn` is told and the song
        goes on without.
        """
        self._root, self._log, self._key, self._seconds, self._warn = root, log, key, seconds, warn
        self._next = time.monotonic() + seconds
        self._mark = self._find()

    def latest(self) -> Checkpoint | None:
        """The newest snapshot that fits the log and the engine."""
        return self._mark

    def offer(self, engine: TokenEngine, rows: Sequence[int], mark: Checkpoint) -> None:
        """Save when it is time."""
        started = time.monotonic()
        if not self._seconds or started < self._next:
            return
        self._log.sync()  # a mark must never be ahead of the log
        try:
            self._save(engine, rows, mark)
        except StorageError as error:
            self._seconds = 0.0
            self._warn(f"no more snapshots, a resume would take longer: {error.message}")
        taken = time.monotonic() - started
        self._next = time.monotonic() + max(self._seconds, MIN_GAP_FACTOR * taken)

    def restore(self, engine: TokenEngine, rows: Sequence[int]) -> None:
        """Load the latest snapshot's rows. Raises DamagedFile; the snapshot is dropped then."""
        assert self._mark
        folder = self._root / _folder_name(self._mark)
        try:
            for place, row in enumerate(rows):
                engine.load(row, folder / f"row{place}.bin")
        except DamagedFile:
            self._mark = None
            check_steady(folder)
            shutil.rmtree(folder, ignore_errors=True)
            self._warn("the snapshot cannot be used, so the section is replayed from the log")
            raise

    def _save(self, engine: TokenEngine, rows: Sequence[int], mark: Checkpoint) -> None:
        folder = self._root / _folder_name(mark)
        check_steady(folder)
        with storage_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            hashes = []
            for place, row in enumerate(rows):
                file = folder / f"row{place}.bin"
                engine.save(row, file)
                with storage_errors(file):
                    flush(file)
                    hashes.append(sha256_of(file))
            attempt = self._log.attempt(mark.section)
            note = SnapshotRecord(mark.section, mark.codes, mark.first, attempt, self._key, tuple(hashes))
            with storage_errors(folder):
                (folder / "mark.json").write_bytes(typed_json.encode_with_checksum(note))
                flush(folder / "mark.json")
                flush_folder(folder)
        except StorageError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        check_steady(folder)
        for old in self._root.iterdir():
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _find(self) -> Checkpoint | None:
        """The newest snapshot that is whole, of this engine, and not ahead of the log."""
        found = {}
        for folder in self._root.glob("*-*"):
            with suppress(OSError, DamagedFile):  # an unfinished snapshot is not one
                note = typed_json.read_file(folder / "mark.json", SnapshotRecord, "")
                mark = Checkpoint(note.section, note.codes, note.first)
                fits = 0 <= mark.first <= mark.section and 0 < mark.codes <= len(
                    self._log.codes(mark.section)
                )
                same = note.attempt == self._log.attempt(mark.section)  # not of draws thrown away
                if fits and same and note.key == self._key and folder.name == _folder_name(mark):
                    found[mark] = note.hashes
        for mark in sorted(found, key=lambda mark: (mark.section, mark.codes), reverse=True):
            files = [self._root / _folder_name(mark) / f"row{row}.bin" for row in range(len(found[mark]))]
            if (
                all(file.is_file() for file in files)
                and tuple(sha256_of(file) for file in files) == found[mark]
            ):
                return mark
            self._warn("a damaged snapshot is left aside")
        return None


def _folder_name(mark: Checkpoint) -> str:
    return f"{mark.section}-{mark.codes}"
