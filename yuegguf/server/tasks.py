"""Work of the queues besides generating songs: typed, kept in its row as JSON, done by a worker.

A task may be killed at any moment and is done again from its beginning, with the same outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event, Progress
from yuegguf.request.song_request import Output

REPORT_SECONDS = 0.5
"""Least seconds between two reports of a phase."""


class RenderTask(Struct, frozen=True, kw_only=True, tag="render"):
    """Write a refined song's files anew."""

    output: Output
    force: bool = False


Task = RenderTask


def task_json(task: Task) -> str:
    """A task as its row keeps it."""
    return msgspec.json.encode(task).decode()


def read_task(text: str) -> Task:
    """The task of a row."""
    return msgspec.json.decode(text, type=Task)


def run_task(task: Task, folder: Path, compute: ComputeOptions, progress: Progress) -> dict[str, Any]:
    """Do a task; `folder` is that of its song. Returns what its row keeps as its result.

    Raises YueError; Interrupted where `progress` does.
    """
    from yuegguf.api import songs

    songs.render(folder, task.output, compute=compute, force=task.force, progress=progress)
    return {}


class TaskProgress:
    """Progress of a task as messages to the server: warnings, and two reports a second of each phase."""

    def __init__(self, send: Callable[[dict[str, Any]], None], check: Callable[[], None]) -> None:
        """`check` raises Interrupted once the task is to stop."""
        self._send, self._check = send, check
        self._phase, self._next, self._begun = "", 0.0, time.monotonic()

    def __call__(self, event: Event) -> None:
        """Report an event. Raises Interrupted once the task is to stop."""
        self._check()
        if event.warning:
            self._send({"event": "warning", "text": event.warning})
            return
        now = time.monotonic()
        if event.phase == self._phase and now < self._next and event.done < event.total:
            return
        self._phase, self._next = event.phase, now + REPORT_SECONDS
        facts = {
            "phase": event.phase,
            "phase_index": 1,
            "phases": 1,
            "done": round(event.done / event.total, 4) if event.total else 0.0,
            "note": event.note,
            "elapsed_seconds": round(now - self._begun, 1),
            "eta_seconds": None,
            "audio_seconds": None,
        }
        self._send({"event": "progress", "facts": facts})
