"""Stage 1's caches on disk: which one counts after a crash, and how often one is taken."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from fakes import FakeEngine

from yuegguf.errors import DamagedFile, StorageError, YueError
from yuegguf.files import typed_json
from yuegguf.lm.protocol import SequenceInput
from yuegguf.song import cache_snapshots
from yuegguf.song.cache_snapshots import MIN_GAP_FACTOR, KvSnapshots, SnapshotRecord
from yuegguf.song.token_log import TokenLog
from yuegguf.stages.stage1_task import Checkpoint


class Clock:
    """Time that only moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class SlowEngine(FakeEngine):
    """Saving a row takes a second of the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def save(self, row: int, path: Path) -> None:
        self.clock.now += 1
        with path.open("wb") as file:
            file.write(json.dumps(self.fed[row]).encode())

    def load(self, row: int, path: Path) -> None:
        self.fed[row] = json.loads(path.read_bytes())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cache_snapshots, "time", clock)
    return clock


@pytest.fixture
def log(tmp_path: Path) -> TokenLog:
    log = TokenLog.open(tmp_path / "tokens.log")
    for section, count in enumerate((5, 20)):
        for code in range(count):
            log.append(section, code)
    return log


def fed(clock: Clock) -> SlowEngine:
    engine = SlowEngine(clock)
    engine.decode([SequenceInput(0, [1, 2, 3]), SequenceInput(1, [9])])
    return engine


def keeper(root: Path, log: TokenLog, key: str = "k", seconds: float = 10.0) -> KvSnapshots:
    return KvSnapshots(root / "cache", log, key, seconds)


def save(root: Path, log: TokenLog, clock: Clock, mark: Checkpoint, key: str = "k") -> Path:
    """One snapshot, taken now."""
    cache = keeper(root, log, key)
    clock.now += 11
    cache.offer(fed(clock), range(2), mark)
    return root / "cache" / f"{mark.section}-{mark.codes}"


def test_what_is_saved_comes_back(tmp_path: Path, log: TokenLog, clock: Clock) -> None:
    mark = Checkpoint(1, 6, 0)
    folder = save(tmp_path, log, clock, mark)
    assert sorted(path.name for path in folder.iterdir()) == ["mark.json", "row0.bin", "row1.bin"]
    cache = keeper(tmp_path, log)
    assert cache.latest() == mark
    engine = SlowEngine(clock)
    cache.restore(engine, range(2))
    assert engine.fed == [[1, 2, 3], [9]]


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("error", [DamagedFile("it is cut off"), StorageError("the disk is full")])
def test_only_a_snapshot_whose_files_changed_is_deleted(
    error: YueError, changed: bool, tmp_path: Path, log: TokenLog, clock: Clock
) -> None:
    mark, warnings = Checkpoint(1, 6, 0), list[str]()
    folder = save(tmp_path, log, clock, mark)

    class Failing(SlowEngine):
        def load(self, row: int, path: Path) -> None:
            raise error

    cache = KvSnapshots(tmp_path / "cache", log, "k", 10.0, warn=warnings.append)
    if changed:
        (folder / "row1.bin").write_bytes(b"[]")
    with pytest.raises(type(error)):
        cache.restore(Failing(clock), range(2))
    assert cache.latest() is None
    assert warnings == [
        f"the snapshot cannot be used, so the section is replayed from the log: {error.message}"
    ]
    assert folder.exists() == (not changed or isinstance(error, StorageError))
    assert keeper(tmp_path, log).latest() == (None if changed else mark)


def test_the_newest_stays_and_older_ones_go(tmp_path: Path, log: TokenLog, clock: Clock) -> None:
    for mark in (Checkpoint(0, 4, 0), Checkpoint(1, 9, 0), Checkpoint(1, 12, 1)):
        save(tmp_path, log, clock, mark)
        assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{mark.section}-{mark.codes}"]
        assert keeper(tmp_path, log).latest() == mark


def test_a_crash_before_the_old_one_is_deleted_leaves_both_and_the_later_counts(
    tmp_path: Path, log: TokenLog, clock: Clock
) -> None:
    old = save(tmp_path, log, clock, Checkpoint(0, 5, 0))
    shutil.copytree(old, tmp_path / "kept")
    save(tmp_path, log, clock, Checkpoint(1, 2, 0))
    shutil.copytree(tmp_path / "kept", old)
    assert keeper(tmp_path, log).latest() == Checkpoint(1, 2, 0)


@pytest.mark.parametrize("damage", ["no mark", "cut mark", "no row", "short row", "no codes", "a list"])
def test_a_torn_snapshot_is_passed_over_for_the_whole_one(
    damage: str, tmp_path: Path, log: TokenLog, clock: Clock
) -> None:
    whole = save(tmp_path, log, clock, Checkpoint(0, 3, 0))
    shutil.copytree(whole, tmp_path / "kept")
    torn = save(tmp_path, log, clock, Checkpoint(1, 9, 0))
    shutil.copytree(tmp_path / "kept", whole)
    mark, row = torn / "mark.json", torn / "row1.bin"
    note = json.loads(mark.read_text())
    if damage == "no mark":
        mark.unlink()
    elif damage == "cut mark":
        mark.write_text(mark.read_text()[:20])
    elif damage == "no row":
        row.unlink()
    elif damage == "short row":
        row.write_bytes(row.read_bytes()[:-1])
    elif damage == "no codes":
        mark.write_text(json.dumps({**note, "codes": 0}))
    else:
        mark.write_text("[]")
    assert keeper(tmp_path, log).latest() == Checkpoint(0, 3, 0)


def test_a_cache_of_another_model_or_options_is_not_used(tmp_path: Path, log: TokenLog, clock: Clock) -> None:
    save(tmp_path, log, clock, Checkpoint(1, 6, 0))
    assert keeper(tmp_path, log, "other").latest() is None


def test_a_mark_ahead_of_the_log_is_not_used(tmp_path: Path, log: TokenLog, clock: Clock) -> None:
    save(tmp_path, log, clock, Checkpoint(1, 20, 0))
    log.close()
    path = tmp_path / "tokens.log"
    path.write_bytes(path.read_bytes()[: -len(b"19\n")])
    assert keeper(tmp_path, TokenLog.open(path)).latest() is None


def test_nothing_there_is_no_mark(tmp_path: Path, log: TokenLog) -> None:
    assert keeper(tmp_path, log).latest() is None


def test_saved_as_often_as_requested_but_never_for_more_than_a_twentieth_of_the_time(
    tmp_path: Path, log: TokenLog, clock: Clock
) -> None:
    cache, engine, taken = keeper(tmp_path, log, seconds=10.0), fed(clock), []
    for _ in range(300):
        clock.now += 1
        before = clock.now
        cache.offer(engine, range(2), Checkpoint(1, 6, 0))
        if clock.now > before:
            taken.append(before)
    assert taken[0] == 110.0
    gaps = [b - a for a, b in pairwise(taken)]
    assert set(gaps) == {2 + MIN_GAP_FACTOR * 2.0}  # two rows take two seconds
    assert MIN_GAP_FACTOR == 20


def test_zero_seconds_means_never(tmp_path: Path, log: TokenLog, clock: Clock) -> None:
    cache = keeper(tmp_path, log, seconds=0)
    clock.now += 1e6
    cache.offer(fed(clock), range(2), Checkpoint(1, 6, 0))
    assert not (tmp_path / "cache").exists()


def test_a_failed_save_leaves_the_old_snapshot(tmp_path: Path, log: TokenLog, clock: Clock) -> None:
    save(tmp_path, log, clock, Checkpoint(0, 3, 0))
    cache = keeper(tmp_path, log)
    engine = fed(clock)

    def full(row: int, path: Path) -> None:
        path.write_bytes(b"half")
        raise StorageError("could not write", "free some disk space")

    engine.save = full  # type: ignore[method-assign]
    clock.now += 11
    cache.offer(engine, range(2), Checkpoint(1, 9, 0))  # the song goes on without snapshots
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["0-3"]
    assert keeper(tmp_path, log).latest() == Checkpoint(0, 3, 0)
    clock.now += 1000
    cache.offer(fed(clock), range(2), Checkpoint(1, 9, 0))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["0-3"]


@pytest.mark.parametrize("section", [-1, -9])
def test_a_mark_of_a_section_before_the_first_is_not_used(
    section: int, tmp_path: Path, log: TokenLog, clock: Clock
) -> None:
    save(tmp_path, log, clock, Checkpoint(1, 6, 0))
    folder = tmp_path / "cache" / f"{section}-6"
    folder.mkdir()
    saved = SnapshotRecord(section, 6, section, 0, "k", ())
    (folder / "mark.json").write_bytes(typed_json.encode_with_checksum(saved))
    assert log.codes(section) == ()
    assert keeper(tmp_path, log).latest() == Checkpoint(1, 6, 0)


def unreadable(path: Path) -> str:
    """A hash of a file on a failing disk."""
    raise DamagedFile(f"{path} cannot be read (Input/output error)")


def test_a_snapshot_that_cannot_be_read_is_ignored_and_kept(
    tmp_path: Path, log: TokenLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, warnings = Checkpoint(1, 6, 0), list[str]()
    folder = save(tmp_path, log, clock, mark)
    opened = keeper(tmp_path, log)
    monkeypatch.setattr(cache_snapshots, "sha256_of", unreadable)
    assert KvSnapshots(tmp_path / "cache", log, "k", 10.0, warn=warnings.append).latest() is None
    assert warnings == ["a damaged snapshot is ignored"]

    class Failing(SlowEngine):
        def load(self, row: int, path: Path) -> None:
            raise DamagedFile("it cannot be read")

    with pytest.raises(DamagedFile, match="it cannot be read"):
        opened.restore(Failing(clock), range(2))
    assert folder.exists()


def test_a_snapshot_that_cannot_be_read_again_is_not_saved(
    tmp_path: Path, log: TokenLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings = list[str]()
    cache = KvSnapshots(tmp_path / "cache", log, "k", 10.0, warn=warnings.append)
    monkeypatch.setattr(cache_snapshots, "sha256_of", unreadable)
    clock.now += 11
    cache.offer(fed(clock), range(2), Checkpoint(1, 6, 0))
    assert len(warnings) == 1
    assert warnings[0].startswith("no more snapshots, a resume would take longer: ")
    assert not any((tmp_path / "cache").iterdir())
