"""The worker process: it takes songs from the server, generates them on a scheduler, and reports.

Messages are JSON objects, one per message of a `multiprocessing` connection.

    to the worker      {"do": "song", "song": ID, "folder": PATH, "refine": false}
                       {"do": "task", "song": ID, "folder": PATH, "task": JSON}
                       {"do": "cancel", "song": ID}    {"do": "stop"}
    to the server      {"event": "progress", "song": ID, "facts": {…}}
                       {"event": "warning", "song": ID, "text": "…"}
                       {"event": "step", "song": ID, "kind": "section", "preview" or "take", "facts": {…}}
                       {"event": "ended", "song": ID, "outcome": "succeeded", "failed", "interrupted" or
                        "busy", "error": {…}, "result": {…} of a task}
                       {"event": "gave up", "error": {…}}, the last one, before llama.cpp ends the process

What a song has reached is in its folder alone, so the process may be killed at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import FolderBusy, Interrupted, YueError, explained
from yuegguf.measure.remaining import PHASES, RemainingTime, remember_course, remembered_course, song_facts
from yuegguf.models.resolve import ModelChoice
from yuegguf.pipeline import takes
from yuegguf.pipeline.engines import report_aborts
from yuegguf.pipeline.scheduler import Runner
from yuegguf.pipeline.song_models import models_of_song
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event, ProgressSum
from yuegguf.server.draft_events import DraftEvents
from yuegguf.server.problems import error_json
from yuegguf.server.reports import Reports
from yuegguf.server.song_place import Place, ThisProcess
from yuegguf.server.task_work import TaskMachine, TaskProgress, run_task
from yuegguf.server.tasks import read_task
from yuegguf.song.folder import SongFolder


@dataclass(frozen=True)
class WorkerFacts:
    """Settings of a worker process."""

    compute: ComputeOptions
    parallel: int
    choice: ModelChoice = field(default_factory=ModelChoice)
    """Models of tasks."""
    songs: Path = Path("songs")
    """Folder of songs that tasks make."""


def gone() -> None:
    """End this process at once: the server is gone, and all work is on disk."""
    os._exit(0)


def ignore_signals() -> None:
    """Leave it to the server to stop this process: a terminal's Ctrl-C reaches it too."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def run_worker(link: Connection, facts: WorkerFacts, place: Place | None = None) -> None:
    """Be a worker until the server says stop; ends at once where the server is gone.

    Songs are computed at `place`, by default here.
    """
    ignore_signals()
    hardware.give_way()
    worker = Worker(link, facts, place=place)
    report_aborts(worker.give_up)
    worker.run()


@dataclass
class _ActiveSong:
    """A song, or takes of one, in this process."""

    works: list[SongWork]
    drafts: list[DraftEvents]
    """Events of each work while it is drafted."""
    remaining: RemainingTime = field(default_factory=RemainingTime)
    reports: Reports = field(default_factory=Reports)
    cancelled: bool = False
    begun: float = field(default_factory=time.monotonic)


class Worker:
    """Songs that the server sent, on a scheduler."""

    def __init__(
        self,
        link: Connection,
        facts: WorkerFacts,
        gone: Callable[[], None] = gone,
        place: Place | None = None,
    ) -> None:
        """`gone` is called once the server is gone; songs are computed at `place`, by default here."""
        self._place = place or ThisProcess(facts.parallel)
        self._link, self._facts, self._gone = link, facts, gone
        self._waiting: deque[dict[str, Any]] = deque()
        self._songs: dict[str, _ActiveSong] = {}
        self._given: set[str] = set()
        """Songs and tasks that the server gave and that have not ended."""
        self._cancelled: set[str] = set()
        self._stop, self._arrived = threading.Event(), threading.Event()
        self._sending, self._lock = threading.Lock(), threading.Lock()

    def run(self) -> None:
        """Work until the server says stop."""
        threading.Thread(target=self._read, name="messages", daemon=True).start()
        scheduler = self._place.runner(self._stop, lambda: self._begin_next(scheduler))
        while not self._stop.is_set():
            self._arrived.wait()
            self._arrived.clear()
            while not self._stop.is_set() and self._begin_next(scheduler):
                scheduler.run()

    def give_up(self, error: YueError) -> None:
        """Report why llama.cpp ends this process, and end it."""
        self._send({"event": "gave up", "error": error_json(error)})
        os._exit(error.exit_code)

    def _read(self) -> None:
        """Take messages until the server says stop or is gone."""
        while True:
            try:
                message = json.loads(self._link.recv_bytes())
            except (EOFError, OSError):
                self._gone()
                return
            if message["do"] == "stop":
                self._stop.set()
                self._arrived.set()
                return
            elif message["do"] == "cancel":
                self._cancel(message["song"])
            else:
                with self._lock:
                    self._given.add(message["song"])
                self._waiting.append(message)
            self._arrived.set()

    def _cancel(self, song: str) -> None:
        with self._lock:
            if song not in self._given:  # it has ended: the next time that it is given is none to cancel
                return
            self._cancelled.add(song)
            active = self._songs.get(song)
        for work in active.works if active else ():
            work.cancel()

    def _begin_next(self, scheduler: Runner) -> bool:
        """Begin with the next song that can be; whether there is one."""
        while self._waiting and not self._stop.is_set():
            message = self._waiting.popleft()
            song = message["song"]
            if message["do"] == "task":
                self._do_task(song, message)
                continue
            try:
                active = self._begin(song, Path(message["folder"]), message["refine"])
            except Exception as error:
                self._report_end(song, error)
                continue
            with self._lock:
                self._songs[song] = active
                cancelled = song in self._cancelled
            if cancelled:  # while it waited
                self._cancel(song)
            scheduler.submit(*active.works)
            return True
        return False

    def _do_task(self, song: str, message: dict[str, Any]) -> None:
        """Do a task to its end; it stops at its next event once it is cancelled or the server stops."""
        try:
            report = TaskProgress(
                lambda facts: self._send({**facts, "song": song}), partial(self._check_task, song)
            )
            task = read_task(message["task"])
            machine = TaskMachine(self._facts.compute, self._facts.choice, self._facts.songs)
            result = run_task(task, Path(message["folder"]), machine, report)
        except Exception as error:
            self._report_end(song, error)
        else:
            self._report_end(song, None, result)

    def _check_task(self, song: str) -> None:
        """Raise Interrupted once a task is to stop."""
        if self._stop.is_set() or song in self._cancelled:
            raise Interrupted("stopped")

    def _begin(self, song: str, folder: Path, refine: bool) -> _ActiveSong:
        """The works of a song's folder, or of the takes in it. Raises YueError."""
        songs = takes.of(folder) or [SongFolder.open(folder)]
        models = models_of_song(songs[0])
        drafts = not refine and (len(songs) > 1 or bool(songs[0].early.draft))
        course, kept = None, (0, 0)
        with suppress(YueError):  # without a home folder nothing is remembered
            kept = (facts := song_facts(songs[0], len(songs))).kept
            course = remembered_course(facts)
        numbers = range(1, len(songs) + 1) if len(songs) > 1 else [0]
        events = [
            DraftEvents(each, partial(self._step, song), number)
            for number, each in zip(numbers, songs, strict=True)
        ]
        active = _ActiveSong([], events, RemainingTime(course, PHASES[:1] if drafts else PHASES, kept))
        parts = ProgressSum(partial(self._progress, song, active), len(songs), "takes")
        active.works = [
            self._place.work(
                each,
                models,
                self._facts.compute,
                events[number - 1].beside(parts.part(number, f"take {number}")),
                partial(self._song_ended, song),
                refine=refine,
            )
            for number, each in enumerate(songs, 1)
        ]
        return active

    def _progress(self, song: str, active: _ActiveSong, event: Event) -> None:
        if event.warning:
            self._send({"event": "warning", "song": song, "text": event.warning})
            return
        now = time.monotonic()
        active.remaining.update(event, now)
        if not active.reports.are_due(event, now):
            return
        left = active.remaining.left
        facts = {
            "phase": event.phase,
            "phase_index": PHASES.index(event.phase) + 1 if event.phase in PHASES else 0,
            "phases": len(PHASES),
            "done": round(active.remaining.share, 4),
            "section": event.section or None,
            "sections": len(active.works[0].folder.song.sections),
            "note": event.note,
            "elapsed_seconds": round(active.remaining.elapsed, 1),
            "eta_seconds": None if left is None else round(left, 1),
            "audio_seconds": round(event.done / FRAME_RATE, 2) if event.phase == "draft" else None,
        }
        self._send({"event": "progress", "song": song, "facts": facts})

    def _step(self, song: str, kind: str, facts: dict[str, Any]) -> None:
        self._send({"event": "step", "song": song, "kind": kind, "facts": facts})

    def _song_ended(self, song: str, work: SongWork) -> None:
        """Report a take, and a song or the last take of one, as soon as it has ended."""
        active = self._songs[song]
        place = active.works.index(work)
        active.drafts[place].complete()
        if len(active.works) > 1:
            name = work.folder.path.name
            self._step(song, "take", {"take": place + 1, "id": f"{song}:{name}", "error": _error_of(work)})
        if not all(work.ended for work in active.works):
            return
        error: Exception | None = None
        try:
            results = [work.result() for work in active.works]
            if self._facts.parallel == 1:
                frames = sum(round(FRAME_RATE * each.seconds) for each in results)
                self._remember(active, frames)
        except Exception as caught:
            error = caught
        self._report_end(song, error)

    def _remember(self, active: _ActiveSong, frames: int) -> None:
        """Remember how long the phases took, for the next song of the same kind."""
        with suppress(YueError):
            course = active.remaining.course(frames)
            remember_course(course, song_facts(active.works[0].folder, len(active.works)))

    def _report_end(self, song: str, error: Exception | None, result: dict[str, Any] | None = None) -> None:
        with self._lock:
            self._songs.pop(song, None)
            self._given.discard(song)
            self._cancelled.discard(song)
        outcome = "succeeded" if error is None else "failed"
        if isinstance(error, Interrupted):
            outcome = "interrupted"
        if isinstance(error, FolderBusy):
            outcome = "busy"
        facts = None if error is None else error_json(explained(error))
        self._send({"event": "ended", "song": song, "outcome": outcome, "error": facts, "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            with self._sending:
                self._link.send_bytes(json.dumps(message).encode())
        except OSError:
            self._gone()


def _error_of(work: SongWork) -> dict[str, Any] | None:
    """The error that ended a song, as JSON; None for one that is done."""
    try:
        work.result()
    except Exception as error:
        return error_json(explained(error))
    return None
