"""The dispatcher of a queue, step by step: pauses of busy songs, and faults of ours."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving_client import Idle, served

from yuegguf.errors import StorageError
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.server import dispatcher
from yuegguf.server.dispatcher import MOST_PAUSE, Dispatcher, DispatcherOptions
from yuegguf.server.events import EventHub
from yuegguf.server.jobs import Job, JobStore
from yuegguf.server.recovery import recover
from yuegguf.server.shelf import Shelf, no_such_song
from yuegguf.server.worker import WorkerFacts

ERROR = {"message": "no", "hint": "yes"}


def raising(error: Exception) -> Any:
    def raise_it(*_: Any, **__: Any) -> Any:
        raise error

    return raise_it


def failing_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that meets a full disk the first time."""
    errors = [StorageError("the disk is full", "delete something")]

    def call(*given: Any, **facts: Any) -> Any:
        if errors:
            raise errors.pop()
        return function(*given, **facts)

    return call


class Clock:
    """A clock that stands still until it is put on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        time = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now, sleep=lambda _: None)
        monkeypatch.setattr(dispatcher, "time", time)


class Steps:
    """A dispatcher without its thread: what its worker was given, and what it says."""

    def __init__(self, folder: Path, path_of: Callable[[Job], Path] | None = None) -> None:
        self.store, self.hub, self.idle = JobStore(folder / "queue.sqlite"), EventHub(), Idle()
        options = DispatcherOptions(WorkerFacts(ComputeOptions(), 1), 1e9, self.idle)
        self.dispatcher = Dispatcher(self.store, self.hub, options, path_of or (lambda job: folder))

    def given(self) -> list[str]:
        """The songs that the worker gets now."""
        self.dispatcher._fill()
        messages = self.idle.started[-1].messages
        found = [message["song"] for message in messages]
        messages.clear()
        return found

    def say(self, event: str, **facts: Any) -> None:
        self.dispatcher._handle_surely({"event": event, **facts, "worker": self.idle.started[-1].number})

    def end(self, song: str, outcome: str) -> None:
        self.say("ended", song=song, outcome=outcome, error=ERROR)

    def state(self, song: str) -> str:
        row = self.store.get(song)
        assert row is not None
        return row.state


def test_a_busy_song_is_tried_again_after_pauses_that_double(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, steps = Clock(monkeypatch), Steps(tmp_path)
    steps.store.queue("a")
    assert steps.given() == ["a"]
    for pause in (1, 2, 4, 8, 16, MOST_PAUSE, MOST_PAUSE):
        steps.end("a", "busy")
        assert (steps.state("a"), steps.given()) == ("queued", [])
        clock.now += pause - 0.5
        assert steps.given() == []
        clock.now += 0.5
        assert steps.given() == ["a"]
    steps.end("a", "failed")
    steps.store.queue("a")
    assert steps.given() == ["a"]
    steps.end("a", "busy")
    clock.now += 1  # its pauses begin anew
    assert steps.given() == ["a"]


def test_a_busy_song_keeps_no_other_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = Clock(monkeypatch), Steps(tmp_path)
    for song in "ab":
        steps.store.queue(song)
    assert steps.given() == ["a"]
    steps.end("a", "busy")
    assert steps.given() == ["b"]
    clock.now += 1
    steps.end("b", "succeeded")
    assert steps.given() == ["a"]


def test_a_fault_under_a_message_fails_its_song_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(tmp_path)
    steps.store.queue("a")
    steps.store.queue("b")
    assert steps.given() == ["a"]
    with monkeypatch.context() as broken:
        broken.setattr(JobStore, "queue", raising(sqlite3.ProgrammingError("a fault")))
        result = {"generate": True, "song": "c"}
        steps.say("ended", song="a", outcome="succeeded", error=None, result=result)
    row = steps.store.get("a")
    assert row is not None
    assert (row.state, json.loads(row.error)["exit_code"]) == ("failed", 1)
    assert "ProgrammingError: a fault" in row.error
    assert "cannot be handled" in caplog.text
    assert steps.given() == ["b"]


def test_a_fault_while_a_worker_is_buried_frees_its_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(tmp_path)
    for song in "ab":
        steps.store.queue(song)
    assert steps.given() == ["a"]
    with monkeypatch.context() as broken:
        broken.setattr(JobStore, "change", raising(sqlite3.ProgrammingError("a fault")))
        steps.say("died", code=1)
    assert steps.given() == ["b"]


def test_a_queue_that_stands_still_is_no_healthy_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatcher, "LOOK_SECONDS", 0.01)
    with served(tmp_path / "songs", Idle()) as client:
        assert (client("GET", "/health").status, client("GET", "/health").json["status"]) == (200, "ok")
        song = client.create()
        client.wait(song, "processing")
        with monkeypatch.context() as broken:
            broken.setattr(JobStore, "waiting", raising(KeyError("a fault")))
            answer = client("GET", "/health")
            while answer.status != 503:
                answer = client("GET", "/health")
            assert (answer.json["status"], answer.json["worker"]) == ("failing", "busy")
        while client("GET", "/health").status != 200:  # it goes on by itself
            pass
        assert "stands still" in caplog.text


def test_the_way_to_a_worker_that_died_is_closed(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    steps.store.queue("a")
    steps.given()
    stopped: list[int] = []
    worker = steps.idle.started[0]
    worker.stop = lambda: stopped.append(worker.number)  # type: ignore[method-assign]
    steps.say("died", code=1)
    assert stopped == [worker.number]
    assert (steps.state("a"), steps.given()) == ("queued", ["a"])


@pytest.mark.parametrize("names", [("change",), ("warn",), ("get",), ("change", "warn", "get")])
def test_a_worker_that_dies_while_the_disk_is_full_keeps_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    Clock(monkeypatch)
    steps = Steps(tmp_path)
    steps.dispatcher._options = replace(steps.dispatcher._options, facts=WorkerFacts(ComputeOptions(), 3))
    for song in "abc":
        steps.store.queue(song)
    assert steps.given() == ["a", "b", "c"]
    steps.say("cancel", song="b")
    for name in names:
        monkeypatch.setattr(steps.store, name, failing_once(getattr(steps.store, name)))
    steps.say("died", code=-9)
    rows = {job.song: job for job in steps.store.all()}
    assert {song: (row.state, row.deaths) for song, row in rows.items()} == {
        "a": ("queued", 1),
        "b": ("canceled", 0),
        "c": ("queued", 1),
    }
    assert len(json.loads(rows["a"].warnings)) == 1
    assert steps.given() == ["a"]  # in a new worker, alone
    steps.say("died", code=-9)
    assert steps.state("a") == "failed"
    assert steps.given() == ["c"]


def test_a_song_of_a_task_is_queued_once_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)
    steps = Steps(tmp_path)
    steps.store.queue("import")
    assert steps.given() == ["import"]
    full = failing_once(steps.store.change)

    def meanwhile(*given: Any, **facts: Any) -> None:
        steps.store.take("made", "queued", "processing")  # by another queue's dispatcher
        full(*given, **facts)

    monkeypatch.setattr(steps.store, "change", meanwhile)
    result = {"generate": True, "song": "made"}
    steps.say("ended", song="import", outcome="succeeded", error=None, result=result)
    assert (steps.state("import"), steps.state("made")) == ("succeeded", "processing")


def test_a_song_that_was_deleted_by_hand_waits_no_longer(tmp_path: Path) -> None:
    gone: list[str] = []

    def path_of(job: Job) -> Path:
        if job.song in gone:
            raise no_such_song()
        return tmp_path

    steps = Steps(tmp_path, path_of)
    for song in "abc":
        steps.store.queue(song)
    assert steps.given() == ["a"]
    gone.append("b")
    assert steps.given() == []  # while the worker has another one
    assert [steps.state(song) for song in "abc"] == ["processing", "failed", "queued"]
    steps.end("a", "succeeded")
    assert steps.given() == ["c"]


def test_a_song_whose_folder_cannot_be_looked_up_goes_on_waiting(tmp_path: Path) -> None:
    errors = [StorageError("too many files are open", "wait")]

    def path_of(job: Job) -> Path:
        if errors:
            raise errors.pop()
        return tmp_path

    steps = Steps(tmp_path, path_of)
    steps.store.queue("a")
    steps.dispatcher._fill_surely()
    assert steps.state("a") == "queued"
    assert steps.given() == ["a"]


def test_rows_of_songs_that_are_gone_are_forgotten_at_the_start(tmp_path: Path) -> None:
    store, shelf = JobStore(tmp_path / "queue.sqlite"), Shelf(tmp_path)
    for song in ("here", "here:take-1", "gone", "gone:take-1", ".task-1"):
        if not song.startswith("gone") and ":" not in song:
            (tmp_path / song).mkdir()
            (tmp_path / song / "song.json").write_text("{}")
        store.queue(song)
    store.change("gone", "succeeded")
    store.change("here", "processing")
    recover(store, shelf, tmp_path / ".uploads")
    assert [(job.song, job.state) for job in store.all()] == [
        (song, "queued") for song in ("here", "here:take-1", ".task-1")
    ]
