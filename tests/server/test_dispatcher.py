"""The dispatcher of a queue, step by step: pauses of busy songs, and faults of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving_client import Idle

from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.server import dispatcher
from yuegguf.server.dispatcher import MOST_PAUSE, Dispatcher, DispatcherOptions
from yuegguf.server.events import EventHub
from yuegguf.server.jobs import Job, JobStore
from yuegguf.server.worker import WorkerFacts

ERROR = {"message": "no", "hint": "yes"}


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
