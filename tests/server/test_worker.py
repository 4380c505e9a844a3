"""The worker and its messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.server import worker
from yuegguf.server.task_work import TaskProgress
from yuegguf.server.tasks import VerifyTask, task_json
from yuegguf.server.worker import Worker, WorkerFacts

WAIT = 60.0


@pytest.fixture
def served() -> Iterator[tuple[Worker, Connection]]:
    """A worker in a thread of this process, and the way to it."""
    here, there = Pipe()
    found = Worker(there, WorkerFacts(ComputeOptions(), 1), lambda: None)
    thread = threading.Thread(target=found.run)
    thread.start()
    yield found, here
    say(here, do="stop")
    thread.join(WAIT)
    assert not thread.is_alive()


def say(link: Connection, **message: Any) -> None:
    link.send_bytes(json.dumps(message).encode())


def outcome(link: Connection) -> str:
    assert link.poll(WAIT)
    return str(json.loads(link.recv_bytes())["outcome"])


def test_a_cancel_that_comes_too_late_stops_no_later_run(
    tmp_path: Path, served: tuple[Worker, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    (found, link), go_on = served, threading.Event()

    def run(_task: Any, _folder: Path, _machine: Any, report: TaskProgress) -> dict[str, Any]:
        assert go_on.wait(WAIT)
        report._check()
        return {}

    def give(song: str) -> None:
        say(link, do="task", song=song, folder=str(tmp_path), task=task_json(VerifyTask()))

    monkeypatch.setattr(worker, "run_task", run)
    go_on.set()
    give("a")
    assert outcome(link) == "succeeded"
    say(link, do="cancel", song="a")
    give("a")
    assert outcome(link) == "succeeded"
    go_on.clear()
    give("b")
    give("a")
    say(link, do="cancel", song="a")  # while it waits
    say(link, do="cancel", song="b")  # while it is done
    give("c")  # once it has been read, the cancels have
    while "c" not in found._given:
        pass
    go_on.set()
    assert [outcome(link) for _ in range(3)] == ["interrupted", "interrupted", "succeeded"]
