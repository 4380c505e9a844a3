"""Generation of the songs of a queue: `run --queue songs.yaml --parallel 4`."""

from __future__ import annotations

import datetime
import shlex
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click

from yuegguf.cli._cluster_options import ClusterChoice
from yuegguf.cli._console import Console
from yuegguf.cli._forecast import show_queue_forecast
from yuegguf.cli._generate import show_problems
from yuegguf.cli._queue import Entry, State, read_queue, song_folders
from yuegguf.cli._queue_part import Part, locked_queue
from yuegguf.cli._signals import stop_on_signals
from yuegguf.errors import Interrupted, RequestError, YueError, explained, quoted
from yuegguf.measure.remaining import SONG_SHARES
from yuegguf.pipeline import takes
from yuegguf.pipeline.scheduler import Runner, Scheduler
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_work import SongWork
from yuegguf.progress import Event, Progress, ProgressSum
from yuegguf.song.folder import SongFolder

UNITS = 1000
"""Units of progress of a whole song."""


@dataclass(frozen=True)
class QueueOptions:
    """Options of `run` for a whole queue."""

    part: Part | None
    parallel: int
    stop_at: str | None
    strict: bool
    cluster: ClusterChoice | None = None

    def arguments(self) -> str:
        """The options as they are written on the command line."""
        words = ["--part", str(self.part)] if self.part is not None else []
        words += ["--parallel", str(self.parallel)] if self.parallel > 1 else []
        words += ["--strict"] if self.strict else []
        return shlex.join([*words, *(self.cluster.arguments() if self.cluster else [])])


def generate_queue(output: Console, command: click.Command, file: Path, options: QueueOptions) -> int:
    """Generate what is left of a queue, or of a part of it.

    Returns the exit code: 1 where songs failed, which stops no other, else EXIT_FAULT where a section is
    plainly wrong, or with `strict` lacks words. Raises RequestError before the first note where any song
    cannot be; Interrupted at `stop_at` and on Ctrl-C.
    """
    until, part = clock(options.stop_at, datetime.datetime.now()) if options.stop_at else None, options.part
    entries = read_queue(output, command, file)
    entries = entries if part is None else part.of(entries)
    try:
        with (
            locked_queue(file, part),
            machines(output, options, entries) as place,
            stop_on_signals(output) as stop,
            alarm(stop, until),
        ):
            songs = QueueRun(output, entries, State(file, part), place, stop)
            songs.scheduler.run()
            return songs.report(options.strict)
    except Interrupted as error:
        is_time = until is not None and not seconds_until(until, datetime.datetime.now())
        when = f"at {options.stop_at}" if is_time else "on request"
        again = f"yuegguf run --queue {quoted(file)} {options.arguments()}".rstrip()
        raise Interrupted(f"stopped {when}", f"go on with: {again}") from error


def forecast_queue(
    output: Console, command: click.Command, file: Path, part: Part | None, whole: bool
) -> int:
    """Show what is left of a queue, or of a part of it, will take; generates nothing. Raises YueError."""
    entries = read_queue(output, command, file)
    show_queue_forecast(output, part.of(entries) if part else entries, State(file, part), whole)
    return 0


class Place(Protocol):
    """The place where the songs of a queue are computed."""

    @property
    def one_by_one(self) -> bool:
        """Whether the songs are computed one after the other."""

    def runner(self, stop: threading.Event, more: Callable[[], bool]) -> Runner:
        """The runner of its works."""

    def work(self, song: SongFolder, job: SongJob, progress: Progress, at_end: Callable[[Any], None]) -> Any:
        """The work on a song."""


@dataclass(frozen=True)
class ThisMachine:
    """The songs of a queue on this machine."""

    parallel: int

    @property
    def one_by_one(self) -> bool:
        """Whether the songs are computed one after the other."""
        return self.parallel == 1

    def runner(self, stop: threading.Event, more: Callable[[], bool]) -> Runner:
        """A scheduler."""
        return Scheduler(self.parallel, stop, more)

    def work(
        self, song: SongFolder, job: SongJob, progress: Progress, at_end: Callable[[Any], None]
    ) -> SongWork:
        """The work on a song."""
        return SongWork(song, job.models, job.compute, progress, at_end=at_end)


@contextmanager
def machines(output: Console, options: QueueOptions, entries: Sequence[Entry]) -> Iterator[Place]:
    """The place that the options name, checked for the songs. Raises YueError."""
    if options.cluster is None:
        yield ThisMachine(options.parallel)
        return
    from yuegguf.cli._cluster import on_cluster

    roots = sorted({entry.job.parent.absolute() for entry in entries})
    with on_cluster(output, options.cluster, options.parallel, roots) as place:
        yield place


class QueueRun:
    """The songs of a queue on a scheduler, each begun when it can be computed, and their outcomes."""

    def __init__(
        self, output: Console, entries: Sequence[Entry], state: State, place: Place, stop: threading.Event
    ) -> None:
        self._output, self._entries, self._state, self._stop = output, entries, state, stop
        self._left = deque(entries)
        self._folders: dict[int, Path] = {}
        self._works: dict[int, list[Any]] = {}
        self._errors: dict[int, YueError] = {}
        self._place = place
        self._progress = None if place.one_by_one else QueueProgress(output.progress, len(entries))
        self.scheduler = place.runner(stop, self._begin_next)

    def _begin_next(self) -> bool:
        """Begin with the next song that can be; whether there is one."""
        while self._left:
            entry = self._left.popleft()
            try:
                works = self._begin(entry)
            except Exception as error:  # a song's failure stops no other
                self._fail(entry, explained(error))
                continue
            self._works[entry.number] = works
            if works:
                self.scheduler.submit(*works)
                return True
        return False

    def _begin(self, entry: Entry) -> list[Any]:
        """Make the folder of a song, or of its takes, unless it is there; the works in it."""
        folder = self._state.folder(entry)
        if folder is None:
            # noted first: a queue that is killed in between never begins the song twice
            folders = takes.start(entry.job, lambda path: self._state.note(entry, path))
            folder = (folders[0].path if len(folders) == 1 else folders[0].path.parent).absolute()
        else:
            self._state.keep(entry, folder)
        self._folders[entry.number] = folder
        self._output.say(f"{entry.title} → {folder}")
        songs = song_folders(folder)
        if self._progress is None and songs:
            drafts = len(songs) > 1 or bool(songs[0].early.draft)
            self._output.display.begin(songs[0], len(songs), draft_only=drafts)
        sum_ = ProgressSum(self._part(entry), len(songs), "takes")
        return [
            self._place.work(
                song, entry.job, sum_.part(number, f"take {number}"), partial(self._song_ended, entry)
            )
            for number, song in enumerate(songs, 1)
        ]

    def _part(self, entry: Entry) -> Progress:
        if self._progress is None:
            return self._output.progress
        return partial(self._progress.show, entry.number, entry.title)

    def _song_ended(self, entry: Entry, work: Any) -> None:
        """Report a song, or the last take of one, as soon as it has ended."""
        works = self._works[entry.number]
        if not all(each.ended for each in works):
            return
        try:
            songs = [each.result() for each in works]
        except Interrupted:  # then no other song begins
            self._stop.set()
            return
        except Exception as error:  # whatever it is
            self._fail(entry, explained(error))
            return
        if self._progress is None:
            self._output.done(songs)
        else:
            self._progress.end(entry.number)

    def _fail(self, entry: Entry, error: YueError) -> None:
        self._errors[entry.number] = error
        self._output.warn(f"{entry.title} failed: {error}")
        if self._progress is not None:
            self._progress.end(entry.number)

    def report(self, strict: bool) -> int:
        """Show the outcome of each song; the exit code. Raises Interrupted where the queue was stopped."""
        self._output.display.clear()
        if self._left:
            raise Interrupted("stopped")
        done = {
            n: [work.result() for work in works] for n, works in self._works.items() if n not in self._errors
        }
        rows: list[dict[str, Any]] = []
        code = 0
        for entry in self._entries:
            row: dict[str, Any] = {"song": entry.number, "name": entry.job.name}
            if error := self._errors.get(entry.number):
                rows.append({**row, "error": {"message": error.message, "hint": error.hint}})
                continue
            songs = done[entry.number]
            code = max(code, show_problems(self._output, songs, strict=strict))
            files = [str(file) for song in songs for file in song.files]
            rows.append({**row, "folder": str(self._folders[entry.number]), "files": files})
        lines = [f"{row['song']:>3}  {row.get('folder') or row['error']['message']}" for row in rows]
        self._output.result({"songs": rows}, lines)
        if self._errors:
            failed = f"{len(self._errors)} of {len(self._entries)} songs failed"
            self._output.warn(f"{failed}; run the same command to try again")
        return 1 if self._errors else code


class QueueProgress:
    """Progress of all songs of a queue as that of one phase, by the usual shares of a song's phases."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress, self._count = progress, count
        self._shares: dict[int, float] = {}

    def show(self, number: int, title: str, event: Event) -> None:
        """Report an event of a song."""
        if event.warning:
            self._progress(Event("songs", 0, 1, warning=f"{title}: {event.warning}"))
            return
        before = 0.0
        for phase, share in SONG_SHARES.items():
            if phase == event.phase:
                before += share * (event.done / event.total if event.total else 1.0)
                break
            before += share
        self._shares[number] = max(before, self._shares.get(number, 0.0))
        self._report(f"{title}, {event.phase}" + (f", {event.note}" if event.note else ""))

    def end(self, number: int) -> None:
        """Count a song as done."""
        self._shares[number] = 1.0
        self._report("")

    def _report(self, note: str) -> None:
        done = round(UNITS * sum(self._shares.values()))
        self._progress(Event("songs", done, UNITS * self._count, note))


def clock(text: str, now: datetime.datetime) -> datetime.datetime:
    """The next time that a clock shows HH:MM. Raises RequestError."""
    try:
        then = datetime.datetime.strptime(text, "%H:%M").time()
    except ValueError as error:
        raise RequestError(f"--stop-at {text} is no time", "write it as 07:30") from error
    found = datetime.datetime.combine(now.date(), then)
    return found if found > now else found + datetime.timedelta(days=1)


def seconds_until(until: datetime.datetime, now: datetime.datetime) -> float:
    """Seconds from one local time to another, 0 where it has passed; clocks may be changed in between."""
    return max(0.0, until.timestamp() - now.timestamp())


@contextmanager
def alarm(stop: threading.Event, until: datetime.datetime | None) -> Iterator[None]:
    """Set an event at a time."""
    if until is None:
        yield
        return
    timer = threading.Timer(seconds_until(until, datetime.datetime.now()), stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
