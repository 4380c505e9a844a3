"""Snapshots of stage 1's KV cache on disk, so that a resume replays seconds instead of the whole song.

A cache restored bit for bit gives the same tokens as an uninterrupted run; prefilling it again in
large batches would not, because batch shape changes the last bits of the arithmetic.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound, StorageError
from yuegguf.files import typed_json
from yuegguf.files.atomic import flush, flush_folder, storage_errors
from yuegguf.files.hashing import sha256_of
from yuegguf.files.steady import check_steady
from yuegguf.lm.protocol import TokenEngine
from yuegguf.song.token_log import TokenLog
from yuegguf.stages.stage1_task import Checkpoint

MIN_GAP_FACTOR = 20
"""Least gap between snapshots, in multiples of the time that the last one took (at most 5 % overhead)."""


@dataclass(frozen=True)
class SnapshotRecord:
    """Content of a snapshot's mark.json; see `Checkpoint` for the first three."""

    section: int
    codes: int
    first: int
    attempt: int
    """Restarts of the section when the snapshot was saved."""
    key: str
    """Model and options of the engine, as text."""
    hashes: tuple[str, ...]
    """SHA-256 of each sequence's file."""
    start: int = 0
    """As that of `Checkpoint`; 0 = unknown."""


class KvSnapshots:
    """The `cache/` folder of a song; implements stage 1's `Snapshots`."""

    def __init__(
        self,
        root: Path,
        log: TokenLog,
        key: str,
        seconds: float,
        *,
        warn: Callable[[str], None] = lambda text: None,
        songs: Callable[[], int] = lambda: 1,
    ) -> None:
        """Keep a snapshot every `seconds` (0 = never), valid for engines opened with the same `key`.

        `songs` is the number of songs that are drafted together, all of which wait while one is saved.

        A snapshot only saves time: where it cannot be written or read, `warn` is called and the song
        continues without.
        """
        self._root, self._log, self._key, self._seconds, self._warn = root, log, key, seconds, warn
        self._songs = songs
        self._next = time.monotonic() + seconds
        self._hashes: tuple[str, ...] = ()
        """Those of the latest snapshot's files."""
        self._latest = self._newest_usable()

    def latest(self) -> Checkpoint | None:
        """The newest snapshot that matches the log and the engine, or None."""
        return self._latest

    def offer(self, engine: TokenEngine, rows: Sequence[int], checkpoint: Checkpoint) -> None:
        """Save a snapshot if `seconds` have passed since the last one."""
        started = time.monotonic()
        if not self._seconds or started < self._next:
            return
        self._log.sync()  # a snapshot must never be ahead of the log
        try:
            self._save(engine, rows, checkpoint)
        except (StorageError, DamagedFile) as error:
            self._seconds = 0.0
            self._warn(f"no more snapshots, a resume would take longer: {error.message}")
        duration = time.monotonic() - started
        self._next = time.monotonic() + max(self._seconds, MIN_GAP_FACTOR * duration * self._songs())

    def restore(self, engine: TokenEngine, rows: Sequence[int]) -> None:
        """Load the latest snapshot into the sequences.

        Raises DamagedFile and StorageError. Only a snapshot whose files changed since they were written is
        deleted: the engine may refuse a good one for another reason, such as memory that it lacks.
        """
        assert self._latest
        folder = self._root / _folder_name(self._latest)
        try:
            for number, row in enumerate(rows):
                engine.load(row, folder / f"row{number}.bin")
        except (DamagedFile, StorageError) as error:
            self._latest = None
            if isinstance(error, DamagedFile) and _is_whole(folder, self._hashes) is False:
                check_steady(folder)
                shutil.rmtree(folder, ignore_errors=True)
            self._warn(
                f"the snapshot cannot be used, so the section is replayed from the log: {error.message}"
            )
            raise

    def _save(self, engine: TokenEngine, rows: Sequence[int], checkpoint: Checkpoint) -> None:
        folder = self._root / _folder_name(checkpoint)
        check_steady(folder)
        with storage_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            hashes = []
            for number, row in enumerate(rows):
                file = folder / f"row{number}.bin"
                engine.save(row, file)
                with storage_errors(file):
                    flush(file)
                    hashes.append(sha256_of(file))
            attempt = self._log.attempt(checkpoint.section)
            saved = SnapshotRecord(
                checkpoint.section,
                checkpoint.codes,
                checkpoint.first,
                attempt,
                self._key,
                tuple(hashes),
                checkpoint.start,
            )
            with storage_errors(folder):
                (folder / "mark.json").write_bytes(typed_json.encode_with_checksum(saved))
                flush(folder / "mark.json")
                flush_folder(folder)
        except (StorageError, DamagedFile):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        check_steady(folder)
        with storage_errors(self._root):
            for old in self._root.iterdir():
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)

    def _newest_usable(self) -> Checkpoint | None:
        """The newest snapshot that is complete, of this engine, and not ahead of the log."""
        candidates = {}
        for folder in self._root.glob("*-*"):
            with suppress(OSError, DamagedFile):  # an unfinished snapshot has no mark.json
                saved = typed_json.read_file(folder / "mark.json", SnapshotRecord, "")
                checkpoint = Checkpoint(saved.section, saved.codes, saved.first, saved.start)
                logged = len(self._log.codes(checkpoint.section))
                fits = 0 <= checkpoint.first <= checkpoint.section and 0 < checkpoint.codes <= logged
                fits = fits and checkpoint.start >= 0
                same = saved.attempt == self._log.attempt(checkpoint.section)  # no codes discarded since
                if fits and same and saved.key == self._key and folder.name == _folder_name(checkpoint):
                    candidates[checkpoint] = saved.hashes
        newest_first = sorted(candidates, key=lambda point: (point.section, point.codes), reverse=True)
        for checkpoint in newest_first:
            folder, hashes = self._root / _folder_name(checkpoint), candidates[checkpoint]
            if _is_whole(folder, hashes):
                self._hashes = hashes
                return checkpoint
            self._warn("a damaged snapshot is ignored")
        return None


def _is_whole(folder: Path, hashes: Sequence[str]) -> bool | None:
    """Whether the files of a snapshot are there with these hashes; None where one cannot be read."""
    try:
        return all(sha256_of(folder / f"row{number}.bin") == sha for number, sha in enumerate(hashes))
    except ModelNotFound:  # a file that is not there
        return False
    except DamagedFile:
        return None


def _folder_name(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.section}-{checkpoint.codes}"
