"""The queue on disk: what was written is there after a restart, in order."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.server.jobs import MAX_WARNINGS, JobStore


def songs(store: JobStore, *states: str) -> list[str]:
    return [job.song for job in store.all(*states)]  # type: ignore[arg-type]


def test_rows_are_there_after_a_restart_in_their_order(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    for name in "abc":
        store.insert(name, idempotency=f"key {name}", digest=name)
        store.queue(name)
    store.change("b", "failed", error={"message": "no"}, completed=4.5)
    store.close()
    again = JobStore(tmp_path / "queue.sqlite")
    assert songs(again, "queued") == ["a", "c"]
    failed = again.by_key("key b")
    assert failed is not None
    assert (failed.song, failed.digest, failed.completed) == ("b", "b", 4.5)
    assert json.loads(failed.error) == {"message": "no"}
    again.queue("b", refine=True)
    assert songs(again, "queued") == ["a", "c", "b"]
    queued = again.get("b")
    assert queued is not None
    assert (queued.error, queued.refine, queued.completed) == ("", True, None)


def test_a_key_belongs_to_one_song(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    store.insert("a", idempotency="key")
    with pytest.raises(sqlite3.IntegrityError):  # a conflict: the file is whole
        store.insert("b", idempotency="key")
    assert songs(store) == ["a"]
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):  # a fault of the caller
        store.get("a")


def test_a_song_in_work_keeps_its_place_before_those_that_are_moved(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    for name in "xyabcd":
        store.queue(name)
    for name in "xy":
        store.change(name, "succeeded")
    store.take("a", "queued", "processing")
    store.move("d", 0)
    store.move("c", 1)
    store.queue("e")
    assert songs(store, "queued", "processing") == ["a", "d", "c", "b", "e"]


def test_songs_of_one_place_are_moved_too(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    for name in "abc":
        store.queue(name)
    store._db.execute("UPDATE jobs SET place = 1")
    store.move("c", 0)
    assert songs(store, "queued") == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("song", "position", "order"), [("d", 0, "dabc"), ("a", 2, "bcad"), ("b", 99, "acdb"), ("c", 2, "abcd")]
)
def test_a_song_moves_to_its_position(tmp_path: Path, song: str, position: int, order: str) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    for name in "abcd":
        store.queue(name)
    store.move(song, position)
    assert songs(store, "queued") == list(order)


def test_warnings_are_kept_once_and_not_without_end(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    store.queue("a")
    for number in (0, 0, *range(1, 2 * MAX_WARNINGS)):
        store.warn("a", f"warning {number}")
    job = store.get("a")
    assert job is not None
    assert json.loads(job.warnings) == [f"warning {n}" for n in range(MAX_WARNINGS)]


def test_another_file_is_refused_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite"
    file.write_bytes(b"not a database, but something of the user's" * 50)
    before = file.read_bytes()
    with pytest.raises(DamagedFile, match="move it away"):
        JobStore(file)
    assert file.read_bytes() == before


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "queue.sqlite"
    database = sqlite3.connect(file)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(DamagedFile, match="newer"):
        JobStore(file)


def test_no_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        JobStore(tmp_path / "nowhere" / "queue.sqlite")


def test_a_file_of_the_first_version_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute(
            "CREATE TABLE jobs (song TEXT PRIMARY KEY, state TEXT NOT NULL, place REAL NOT NULL,"
            " refine INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,"
            " error TEXT NOT NULL DEFAULT '', warnings TEXT NOT NULL DEFAULT '[]',"
            " uploads TEXT NOT NULL DEFAULT '', idempotency TEXT UNIQUE, digest TEXT NOT NULL DEFAULT '',"
            " created REAL NOT NULL, started REAL, completed REAL)"
        )
        old.execute("INSERT INTO jobs (song, state, place, created) VALUES ('mine', 'queued', 1, 2)")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    for _ in range(2):
        store = JobStore(path)
        (job,) = store.waiting("songs")
        assert (job.song, job.task, job.result, job.created) == ("mine", "", "", 2)
        store.close()


def test_queues_have_their_own_order(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    for song in ("a", "b"):
        store.queue(song)
        store.insert_task(f"task {song}", "{}", "audio")
    store.move("b", 0)
    assert [job.song for job in store.waiting("songs")] == ["b", "a"]
    assert [job.song for job in store.waiting("audio")] == ["task a", "task b"]
    store.queue("task a")
    assert [job.song for job in store.waiting("songs")] == ["b", "a", "task a"]
    assert store.get("task a") is not None
    store.close()


def test_a_row_is_taken_from_one_state_alone(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    store.queue("a", refine=True)
    assert store.take("a", "queued", "processing", started=1.5)
    assert not store.take("a", "queued", "canceled", completed=2.5)
    row = store.get("a")
    assert row is not None
    assert (row.state, row.started, row.completed) == ("processing", 1.5, None)
    store.change("a", "succeeded", completed=2.5)
    store.queue("a")
    again = store.get("a")
    assert again is not None
    assert (again.refine, again.started, again.completed) == (True, None, None)
    store.queue("a", refine=False)
    assert not store.all("queued")[0].refine
    store.close()


def test_changes_together_are_made_all_or_none(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")

    def queue_until_full() -> None:
        with store.together():
            store.queue("a")
            raise StorageError("the disk is full", "delete something")

    with pytest.raises(StorageError):
        queue_until_full()
    assert songs(store) == []
    with store.together():
        store.queue("a")
        store.queue("b")
    assert songs(store, "queued") == ["a", "b"]
