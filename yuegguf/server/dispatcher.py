"""The thread that gives songs of the queue to the worker process and writes down what becomes of them."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yuegguf.errors import YueError, explained
from yuegguf.files.atomic import is_locked
from yuegguf.server.events import EventHub
from yuegguf.server.jobs import Job, JobStore, Queue, State
from yuegguf.server.problems import HttpProblem, error_json
from yuegguf.server.worker import WorkerFacts
from yuegguf.server.worker_process import StartWorker, WorkerLink, WorkerProcess

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
"""Seconds after which the queue is looked at again without a message."""
LEAST_PAUSE, MOST_PAUSE = 1.0, 30.0
"""Seconds before a song that another process holds is tried again; they double from try to try."""
MOST_DEATHS = 2
"""Times that a worker may end under a song before the song is set aside."""


@dataclass(frozen=True)
class DispatcherOptions:
    """Settings of a dispatcher."""

    facts: WorkerFacts
    idle_seconds: float
    start: StartWorker = WorkerProcess
    queue: Queue = "songs"


class Dispatcher:
    """Keeps a worker process supplied with the songs, or the tasks, of one queue."""

    def __init__(
        self, store: JobStore, hub: EventHub, options: DispatcherOptions, path_of: Callable[[Job], Path]
    ) -> None:
        """`path_of` gives the folder of a row. Songs that an earlier server worked on go on."""
        self._store, self._hub, self._options, self._path_of = store, hub, options, path_of
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._worker: WorkerLink | None = None
        self._active: dict[str, bool] = {}
        """Songs that the worker has → whether they are to be cancelled."""
        self._pauses: dict[str, tuple[float, float]] = {}
        """Waiting songs that could not begin → when they are tried again, and the seconds of the pause."""
        self._abort: dict[str, Any] | None = None
        """The error with which llama.cpp ends the worker process, as JSON."""
        self._fault = ""
        """The last look at the queue failed by this error, which is neither of the disk nor of the system."""
        self._idle_since = time.monotonic()
        self._stop_was_asked, self._stopping = threading.Event(), False
        self.progress: dict[str, dict[str, Any]] = {}
        """Newest progress of each song in work."""
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin to work on the queue."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Have the worker stop at the next token; songs in work go on when the server starts again."""
        self._stop_was_asked.set()
        self._inbox.put({"event": "stop"})

    def stop(self) -> None:
        """Stop the worker, and wait until it has."""
        self.ask_to_stop()
        self._thread.join()

    def wake(self) -> None:
        """Look at the queue now."""
        self._inbox.put({"event": "look"})

    def cancel(self, song: str) -> None:
        """Stop a song that the worker has; its end is published."""
        self._inbox.put({"event": "cancel", "song": song})

    @property
    def busy(self) -> bool:
        """Whether the worker has a song."""
        return bool(self._active)

    @property
    def works(self) -> bool:
        """Whether the queue is looked at: false after a fault of ours that another look meets again."""
        return self._thread.is_alive() and not self._fault

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, if there is one."""
        worker = self._worker
        return None if worker is None else worker.pid

    def _run(self) -> None:
        while not self._stopping:
            with suppress(queue.Empty):
                self._handle_surely(self._inbox.get(timeout=LOOK_SECONDS))
            if not self._stopping:
                self._fill_surely()
        if self._worker is not None:
            self._worker.stop()
            while not self._inbox.empty():  # songs that were done in the last moment
                with suppress(Exception):
                    self._handle(self._inbox.get())

    def _fill_surely(self) -> None:
        """Fill the worker; what fails is tried again at the next look."""
        try:
            self._fill()
        except (YueError, OSError):  # a full disk, or a process that cannot be started
            pass
        except Exception as error:
            if self._fault != repr(error):
                LOG.error("the queue of %s stands still", self._options.queue, exc_info=error)
            self._fault = repr(error)
        else:
            self._fault = ""

    def _handle_surely(self, message: dict[str, Any]) -> None:
        """Handle a message; while the disk is full, again and again, since no end of a song may be lost."""
        while True:
            try:
                self._handle(message)
                return
            except (YueError, OSError):
                time.sleep(LOOK_SECONDS)
                if self._stop_was_asked.is_set():
                    self._stopping = True
                    return
            except Exception as error:  # which another try would meet again
                self._set_aside(message, error)
                return

    def _set_aside(self, message: dict[str, Any], error: Exception) -> None:
        """End the songs of a message that a fault of ours keeps from being handled."""
        LOG.error("the message %r cannot be handled", message["event"], exc_info=error)
        ended = {"ended": [message.get("song", "")], "died": list(self._active)}
        for song in ended.get(message["event"], ()):
            if song in self._active:
                with suppress(Exception):
                    self._finish(song, "failed", error_json(explained(error)))
                self._drop(song)  # else its place in the worker is never free
        if message["event"] == "died":
            self._leave_worker()

    def _leave_worker(self) -> None:
        """Stop a worker, which closes the way to it, and forget it."""
        worker, self._worker, self._abort = self._worker, None, None
        if worker is not None:
            worker.stop()

    def _handle(self, message: dict[str, Any]) -> None:
        event, song = message["event"], message.get("song", "")
        if event == "stop":
            self._stopping = True
        elif event == "cancel" and song in self._active:
            self._active[song] = True
            if self._worker is not None:
                self._worker.send({"do": "cancel", "song": song})
        elif self._worker is None or message.get("worker") != self._worker.number:
            return  # it comes from a worker that was replaced
        elif event == "progress" and song in self._active:
            self.progress[song] = message["facts"]
            self._hub.publish(song, "progress", message["facts"])
        elif event == "step" and song in self._active:
            self._hub.publish(song, message["kind"], message["facts"])
        elif event == "warning":
            self._store.warn(song, message["text"])
            self._hub.publish(song, "warning", {"message": message["text"]})
        elif event == "ended" and song in self._active:
            self._end(song, message["outcome"], message["error"], message.get("result"))
        elif event == "gave up":
            self._abort = message["error"]
        elif event == "died":
            if not self._stopping:  # while this fails the message is met again, so the worker stays known
                self._bury(self._abort or error_json(_death(message["code"])))
            self._leave_worker()

    def _end(
        self, song: str, outcome: str, error: dict[str, Any] | None, result: dict[str, Any] | None
    ) -> None:
        if outcome == "succeeded":
            if result and result.get("generate"):  # of the song that the task has made
                if self._store.get(result["song"]) is None:  # else this message is met again
                    self._store.queue(result["song"])
                task = self._store.get(song)
                for sentence in json.loads(task.warnings) if task else ():
                    self._store.warn(result["song"], sentence)
            self._finish(song, "succeeded", result=result)
        elif outcome == "failed":
            self._finish(song, "failed", error)
        elif self._active[song]:
            self._finish(song, "canceled")
        elif not self._stopping:  # else the row stays, and the song goes on with the next server
            self._store.change(song, "queued")
            self._pause(song)
            self._drop(song)
            self._hub.publish(song, "status", {"status": "queued"})

    def _pause(self, song: str) -> None:
        """Leave a song alone for a moment, the longer the more often in a row it could not begin."""
        _, seconds = self._pauses.get(song, (0.0, 0.0))
        seconds = min(max(LEAST_PAUSE, 2 * seconds), MOST_PAUSE)
        self._pauses[song] = time.monotonic() + seconds, seconds

    def _finish(
        self,
        song: str,
        state: State,
        error: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        self._store.change(song, state, error=error or "", result=result or "", completed=time.time())
        self._pauses.pop(song, None)
        self._drop(song)
        self._hub.publish(song, "done", {"status": state, "error": error})

    def _drop(self, song: str) -> None:
        self._active.pop(song, None)
        self.progress.pop(song, None)
        self._idle_since = time.monotonic()

    def _bury(self, error: dict[str, Any]) -> None:
        """Queue the songs of a worker that ended with an error again, or set them aside the second time."""
        for song, cancelled in list(self._active.items()):
            job = self._store.get(song)
            if job is None:
                self._drop(song)
            elif cancelled:
                self._finish(song, "canceled")
            elif job.deaths + 1 >= MOST_DEATHS:
                self._finish(song, "failed", error)
            else:
                sentence = f"{error['message']}; the song goes on in a new worker process"
                self._store.warn(song, sentence)  # first: the death is counted once, where this fails
                self._store.change(song, "queued", deaths=job.deaths + 1)
                self._drop(song)
                self._hub.publish(song, "warning", {"message": sentence})

    def _fill(self) -> None:
        """Give the worker songs, as many as it may have together."""
        while found := self._next():
            job, folder = found
            if self._worker is None:
                self._worker = self._options.start(self._options.facts, self._inbox.put)
            if not self._store.take(job.song, "queued", "processing", started=job.started or time.time()):
                continue  # it was cancelled or deleted in this moment
            self._active[job.song] = False
            facts = {"song": job.song, "folder": str(folder)}
            if job.task:
                self._worker.send({"do": "task", **facts, "task": job.task})
            else:
                self._worker.send({"do": "song", **facts, "refine": job.refine})
            self._hub.publish(job.song, "status", {"status": "processing"})
        idle = not self._active and time.monotonic() - self._idle_since > self._options.idle_seconds
        if idle and self._worker is not None:
            self._leave_worker()

    def _next(self) -> tuple[Job, Path] | None:
        """The first waiting song that can begin now, and its folder; None also where the worker has enough.

        One under which a worker ended is generated alone.
        """
        waiting, now = self._waiting(), time.monotonic()
        if len(self._active) >= self._options.facts.parallel:
            return None
        active = [self._store.get(song) for song in self._active]
        if any(job is not None and job.deaths for job in active):
            return None
        names = {*self._active, *(job.song for job, _ in waiting)}
        self._pauses = {song: pause for song, pause in self._pauses.items() if song in names}
        for job, folder in waiting:
            if job.song in self._active or self._pauses.get(job.song, (0.0,))[0] > now:
                continue
            if job.deaths and self._active:
                return None
            if not any(is_locked(path) for path in (folder, *folder.glob("take-*"))):
                return job, folder
        return None

    def _waiting(self) -> list[tuple[Job, Path]]:
        """The waiting rows and their folders; a song whose folder is gone waits no longer."""
        found: list[tuple[Job, Path]] = []
        for job in self._store.waiting(self._options.queue):
            try:
                found.append((job, self._path_of(job)))
            except HttpProblem as error:  # deleted by hand
                self._finish(job.song, "failed", error_json(error))
        return found


def _death(code: int | None) -> YueError:
    """The error of a song under which the worker process ended."""
    manner = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    return YueError(
        f"the worker process {manner} while it worked on this song",
        "look for a lack of memory; everything so far is kept, and resuming goes on",
    )
