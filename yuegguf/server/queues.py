"""The queues of a server: each has a dispatcher and a worker process, so that none waits for another's work.

"songs" generates; "audio" is what takes seconds to minutes and needs the codec alone; "models" downloads and
checks models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from yuegguf.server.dispatcher import Dispatcher, DispatcherOptions
from yuegguf.server.events import EventHub
from yuegguf.server.jobs import Job, JobStore, Queue
from yuegguf.server.settings import Settings
from yuegguf.server.worker import WorkerFacts
from yuegguf.server.worker_process import StartWorker

TASK_IDLE_SECONDS = 60.0
"""Most seconds that a worker of tasks is kept without work; it holds no models, so it starts quickly."""


class Queues:
    """The dispatchers of all queues."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        hub: EventHub,
        start: StartWorker,
        path_of: Callable[[Job], Path],
    ) -> None:
        """`start` starts a worker; `path_of` gives the folder of a row."""
        brief = min(settings.idle_unload, TASK_IDLE_SECONDS)
        limits: dict[Queue, tuple[int, float]] = {
            "songs": (settings.parallel, settings.idle_unload),
            "audio": (1, brief),
            "models": (1, brief),
        }
        self._dispatchers: dict[Queue, Dispatcher] = {}
        for queue, (parallel, idle) in limits.items():
            facts = WorkerFacts(settings.compute, parallel, settings.choice, settings.songs)
            options = DispatcherOptions(facts, idle, start, queue)
            self._dispatchers[queue] = Dispatcher(store, hub, options, path_of)

    def start(self) -> None:
        """Begin to work."""
        for dispatcher in self._dispatchers.values():
            dispatcher.start()

    def stop(self) -> None:
        """Stop all workers at their next token or event; what is in work goes on at the next start."""
        for dispatcher in self._dispatchers.values():
            dispatcher.ask_to_stop()
        for dispatcher in self._dispatchers.values():
            dispatcher.stop()

    def wake(self, queue: Queue = "songs") -> None:
        """Look at a queue now."""
        self._dispatchers[queue].wake()

    def cancel(self, song: str) -> None:
        """Stop a row that a worker has; its end is published."""
        for dispatcher in self._dispatchers.values():
            dispatcher.cancel(song)

    def progress_of(self, song: str) -> dict[str, Any] | None:
        """The newest progress of a row in work."""
        found = (dispatcher.progress.get(song) for dispatcher in self._dispatchers.values())
        return next((progress for progress in found if progress is not None), None)

    @property
    def busy(self) -> bool:
        """Whether a worker has something to do."""
        return any(dispatcher.busy for dispatcher in self._dispatchers.values())

    @property
    def work(self) -> bool:
        """Whether every queue is looked at."""
        return all(dispatcher.works for dispatcher in self._dispatchers.values())

    @property
    def worker_pids(self) -> dict[Queue, int | None]:
        """Process id of each queue's worker, None where there is none now."""
        return {queue: dispatcher.worker_pid for queue, dispatcher in self._dispatchers.items()}
