"""Operations of clients on songs, apart from HTTP."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from yuegguf.exchange.zip_bundle import write_bundle
from yuegguf.files.atomic import is_locked, locked_folder, storage_errors
from yuegguf.pipeline import create, takes
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_models import models_of_song
from yuegguf.progress import Event, Progress
from yuegguf.server.events import EventHub
from yuegguf.server.forecasting import ForecastProcesses, MakeForecast
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.jobs import ACTIVE, Job, JobStore, Queue, State
from yuegguf.server.listing import IN_QUEUES, PageChoice, page_of, positions
from yuegguf.server.new_songs import Noted, nobody, queue_song
from yuegguf.server.problems import HttpProblem, without_folder
from yuegguf.server.queues import Queues
from yuegguf.server.recovery import recover
from yuegguf.server.settings import LOCK_FILE, QUEUE_FILE, Settings
from yuegguf.server.shelf import ROW_STATUSES, Link, Shelf, at_end, no_such_song, song_json
from yuegguf.server.song_check import checked
from yuegguf.server.song_input import ExtendInput
from yuegguf.server.song_parsing import ParsedSong
from yuegguf.server.tasks import TASK_PREFIX
from yuegguf.server.worker_process import StartWorker, WorkerProcess

RETRY_SECONDS = 30
"""Seconds after which a client is asked to try again while the queue is full."""


class Service:
    """The songs of a folder, their queue and the worker."""

    def __init__(
        self,
        settings: Settings,
        start: StartWorker = WorkerProcess,
        make_forecast: MakeForecast | None = None,
    ) -> None:
        """Lock the folder and open the queue; `start` starts a worker. Raises YueError.

        Forecasts are made by processes of their own unless `make_forecast` is given.
        """
        self._forecast = make_forecast or ForecastProcesses()
        self.settings, self.shelf = settings, Shelf(settings.songs)
        self.hub = EventHub(partial(without_folder, songs=settings.songs))
        self._held, self._bundling = ExitStack(), threading.Lock()
        self.creating = threading.Lock()
        """Held while a song or a task is checked and put into the queue."""
        with storage_errors(settings.songs):
            settings.songs.mkdir(parents=True, exist_ok=True)
        busy = f"{settings.songs} is served by another yuegguf serve"
        self._held.enter_context(locked_folder(settings.songs, LOCK_FILE, busy))
        try:
            self.store = JobStore(settings.songs / QUEUE_FILE)
            self._held.callback(self.store.close)
            recover(self.store, self.shelf, settings.uploads)
        except BaseException:
            self._held.close()
            raise
        self.queues = Queues(settings, self.store, self.hub, start, self._folder_of)

    def start(self) -> None:
        """Begin to work on the queues."""
        self.queues.start()

    def stop(self) -> None:
        """Stop at the next token, and unlock the folder; what is in work goes on at the next start."""
        self.hub.close()
        self.queues.stop()
        self.close()

    def close(self) -> None:
        """Unlock the folder of a service that was not started."""
        self._held.close()

    def at_end(self, stop: Callable[[], None]) -> None:
        """Call `stop` before the folder is unlocked."""
        self._held.callback(stop)

    def _folder_of(self, job: Job) -> Path:
        """The folder of a row's song, or of its task. Raises HttpProblem."""
        if job.song.startswith(TASK_PREFIX):
            return self.settings.uploads / job.uploads
        return self.shelf.path(job.song)

    # Songs

    def song(self, song: str, link: Link) -> dict[str, Any]:
        """The JSON object of a song. Raises HttpProblem."""
        folder, job = self.shelf.path(song), self.store.get(song)
        progress = self.queues.progress_of(song)
        try:
            found = song_json(song, folder, job, progress, link)
        except FileNotFoundError as error:  # deleted since it was looked up
            raise no_such_song() from error
        found["queue"] = self._position(job)
        return found

    def _position(self, job: Job | None) -> dict[str, int] | None:
        waiting = [] if job is None else [each.song for each in self.store.waiting(job.queue)]
        if job is None or job.song not in waiting:  # the worker may have got it since the row was read
            return None
        return {"position": waiting.index(job.song)}

    def listed(self, choice: PageChoice, link: Link) -> dict[str, Any]:
        """A page of the songs, the newest first. Raises HttpProblem."""
        jobs = self.store.all()
        waiting = positions(jobs)

        def shown(song: str, folder: Path, job: Job | None) -> dict[str, Any]:
            facts = song_json(song, folder, job, self.queues.progress_of(song), link, whole=False)
            return {**facts, "queue": {"position": waiting[song]} if song in waiting else None}

        folders = self.shelf.ids()
        if choice.status in (IN_QUEUES, *ROW_STATUSES.values()):  # a kept take waits as any other song
            folders |= self._takes_in_queues(jobs)
        return page_of(folders, {job.song: job for job in jobs}, choice, shown)

    def _takes_in_queues(self, jobs: list[Job]) -> dict[str, Path]:
        found = {}
        for job in jobs:
            if job.state in ACTIVE and not job.song.startswith(TASK_PREFIX) and ":" in job.song:
                with suppress(HttpProblem):  # deleted by hand
                    found[job.song] = self.shelf.path(job.song)
        return found

    def check(self, parsed: ParsedSong) -> dict[str, Any]:
        """Sections, their fit, and the expected time, memory and disk of a song. Raises YueError."""
        warnings: list[str] = []
        job = self._job(parsed, collect(warnings))
        return {**without_folder(checked(job, warnings), self.settings.songs), **self._forecast(job)}

    def known(self, idempotency: Idempotency) -> str | None:
        """The song that a request with this key has made before. Raises HttpProblem for another body."""
        job = self.store.by_key(idempotency.key) if idempotency.key else None
        if job is None or job.state == "new":  # it is not made yet, or could not be
            return None
        if self._is_gone(job):  # the key is free again, as after a deletion
            self.store.delete([job.song])
            return None
        if job.digest != idempotency.digest:
            raise HttpProblem(
                409,
                "idempotency_key_used",
                "this Idempotency-Key belongs to another request",
                "use a new one",
            )
        return job.song

    def _is_gone(self, job: Job) -> bool:
        """Whether the song of a row that no worker has was deleted by hand. Raises StorageError."""
        if job.state == "processing" or job.song.startswith(TASK_PREFIX):
            return False
        try:
            self.shelf.path(job.song)
        except HttpProblem:
            return True
        return False

    def create(
        self, parsed: ParsedSong, idempotency: Idempotency, uploads: str = "", *, noted: Noted = nobody
    ) -> str:
        """Make the folder of a song and put it into the queue; its id. Raises YueError.

        A request that was made before, by its key, gives the same song. `noted` is called with the id of a
        new one before it is in the queue.
        """
        warnings: list[str] = []
        with self.creating:
            if (song := self.known(idempotency)) is not None:  # since it was looked up without the lock
                if uploads:
                    shutil.rmtree(self.settings.uploads / uploads, ignore_errors=True)
                return song
            self.check_room()
            job = self._job(parsed, collect(warnings))
            insert = partial(
                self.store.insert, uploads=uploads, idempotency=idempotency.key, digest=idempotency.digest
            )
            song = queue_song(self.store, partial(takes.start, job), insert, warnings, noted=noted)
        self.queues.wake()
        return song

    def extend(self, song: str, body: ExtendInput, idempotency: Idempotency) -> str:
        """Queue a song that goes on from another one; its id. Raises YueError.

        A request that was made before, by its key, gives the same song.
        """
        warnings: list[str] = []
        with self.creating:
            if (known := self.known(idempotency)) is not None:
                return known
            self.check_room()
            old = self.shelf.open(song)
            models = models_of_song(old)
            job = SongJob(
                old.song,
                models,
                self.settings.songs,
                body.name,
                self.settings.compute,
                old.early,
                body.candidates,
            )
            begin = partial(takes.start_extension, old, body.request(), job, collect(warnings))
            insert = partial(self.store.insert, idempotency=idempotency.key, digest=idempotency.digest)
            made = queue_song(self.store, begin, insert, warnings)
        self.queues.wake()
        return made

    def check_room(self, count: int = 1) -> None:
        """Refuse so many more songs or tasks where the queue has no room. Raises HttpProblem 429."""
        most, waiting = self.settings.max_queue, len(self.store.all("queued"))
        if waiting + count > most:
            raise HttpProblem(
                429,
                "queue_full",
                f"the queue holds {waiting} of at most {most} songs and tasks",
                "try again when one has ended, or start the server with a larger --max-queue",
                {"Retry-After": str(RETRY_SECONDS)},
            )

    def _job(self, parsed: ParsedSong, progress: Progress) -> SongJob:
        song, models = create.prepare_song(parsed.request, parsed.choice, progress)
        place, compute = self.settings.songs, self.settings.compute
        return SongJob(song, models, place, parsed.name, compute, parsed.preview, parsed.takes)

    # Songs in the queue

    def cancel(self, song: str) -> None:
        """Take a song out of the queue, or stop it within a token; everything it has is kept.

        So are those of its takes that are being finished. Raises HttpProblem.
        """
        folder = self.shelf.path(song)
        active = [job for job in self.rows_of(song) if job.state in ACTIVE]
        for job in active:
            self.cancel_row(job)
        if not active and any(is_locked(path) for path in (folder, *Shelf.takes(folder))):
            raise HttpProblem(409, "in_work", "another yuegguf works on the song", "stop it there")

    def cancel_row(self, job: Job) -> None:
        """Take a row that is not ended out of its queue, or stop what its worker does."""
        waits: tuple[State, ...] = ("new", "queued")
        if any(self.store.take(job.song, state, "canceled", completed=time.time()) for state in waits):
            self.hub.publish(job.song, "done", {"status": "canceled", "error": None})
        else:  # a worker has it, or got it in this moment
            self.queues.cancel(job.song)

    def check_idle(self, song: str) -> tuple[Path, Job | None]:
        """The folder and the row of a song that nobody works on, while there is room in the queue.

        Raises HttpProblem.
        """
        folder, job = self.shelf.path(song), self.store.get(song)
        if job is not None and job.state in ACTIVE:
            raise HttpProblem(409, "in_work", "the song is in the queue already", "wait for it, or cancel it")
        if any(is_locked(path) for path in (folder, *Shelf.takes(folder))):
            raise HttpProblem(409, "in_work", "another yuegguf works on the song", "wait for it to end")
        self.check_room()
        return folder, job

    def resume(self, song: str, *, refine: bool = False) -> None:
        """Queue a song that is not in work, unless it has ended; `refine` goes beyond its draft."""
        with self.creating:
            folder, job = self.check_idle(song)
            if refine and Shelf.takes(folder) and not (folder / "song.json").is_file():
                raise HttpProblem(
                    409, "is_takes", "it is a folder of takes", "keep some of them: POST …/keep"
                )
            refined = refine or bool(job and job.refine)
            if at_end(folder, refined=refined):
                return
            self.store.queue(song, refine=refined)
        self._tell_queued(song)

    def _tell_queued(self, song: str) -> None:
        self.hub.publish(song, "status", {"status": "queued"})
        self.queues.wake()

    def begin_task(self, song: str, task: str, queue: Queue) -> None:
        """Queue a task on a song that is not in work, which `check_idle` has said."""
        self.store.queue(song, task=task, queue=queue)
        self.hub.publish(song, "status", {"status": "queued"})
        self.queues.wake(queue)

    def keep(self, song: str, numbers: tuple[int, ...]) -> list[str]:
        """Queue the takes of these numbers to be finished, all or none; their ids. Raises YueError."""
        if len({*numbers}) < len(numbers):
            raise HttpProblem(422, "bad_request", "a take is named twice", "name each once")
        kept, _ = takes.chosen(self.shelf.path(song), numbers)
        ids = [f"{song}:{take.path.name}" for take in kept]
        with self.creating:
            for each in ids:
                self.check_idle(each)
            self.check_room(len(ids))
            left = [each for each, take in zip(ids, kept, strict=True) if not at_end(take.path, refined=True)]
            with self.store.together():
                for each in left:
                    self.store.queue(each, refine=True)
        for each in left:
            self._tell_queued(each)
        return ids

    def move(self, song: str, position: int) -> None:
        """Move a waiting song to a position of the queue. Raises HttpProblem."""
        job = self.store.get(song)
        if job is None or job.state != "queued":
            raise HttpProblem(409, "not_waiting", "the song does not wait in the queue", "see its status")
        self.store.move(song, position)

    def rows_of(self, song: str) -> list[Job]:
        """The rows of a song and of its takes."""
        return [job for job in self.store.all() if job.song == song or job.song.startswith(f"{song}:")]

    @contextmanager
    def bundle(self, song: str, place: Path) -> Iterator[Path]:
        """A zip of a finished song in the folder `place`. Raises YueError."""
        folder = self.shelf.path(song)
        with self._bundling:
            yield write_bundle(folder, place / f"{folder.name}.zip").file

    def counts(self) -> Mapping[str, int]:
        """Number of songs' rows in each state."""
        found: dict[str, int] = {}
        for job in self.store.all():
            if job.song.startswith(TASK_PREFIX):
                continue
            found[job.state] = found.get(job.state, 0) + 1
        return found


def collect(warnings: list[str]) -> Progress:
    """Progress that keeps the warnings alone, in a list."""

    def keep(event: Event) -> None:
        if event.warning:
            warnings.append(event.warning)

    return keep
