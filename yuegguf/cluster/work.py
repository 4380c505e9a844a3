"""The work of a machine on a unit: by leases, with a report at its end. It never raises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from yuegguf.cluster.control import check_control, is_cancelled, is_stopped, note_abort
from yuegguf.cluster.node_models import models_on_node
from yuegguf.cluster.spreading import Helpers, SongPart, spread
from yuegguf.cluster.unit import PHASES_OF, Outcome, Report, Unit, UnitSong, error_facts
from yuegguf.errors import FolderBusy, Interrupted, StorageError, YueError
from yuegguf.models.resolve import Models
from yuegguf.pipeline.engines import report_aborts
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_work import SongWork
from yuegguf.progress import Event
from yuegguf.request.preview_options import as_it_was, without_draft
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import HeldLease, leased
from yuegguf.song.state import where

BEAT_SECONDS = 2.0
"""Seconds between two signs of life."""


@dataclass(frozen=True)
class _ReadySong:
    """A song that this machine sees, and its models here."""

    song: UnitSong
    folder: SongFolder
    models: Models


@dataclass
class _Active:
    """A song that this process holds."""

    song: UnitSong
    held: HeldLease
    work: SongWork
    event: Event = field(default_factory=lambda: Event("", 0, 0))
    warnings: list[str] = field(default_factory=list)
    lost: bool = False
    left: bool = False
    """Whether the folder was given back before the unit's end."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while a sign of life is given, or the folder given back."""

    def beat(self) -> None:
        """Give a sign of life, with the progress; a song that is lost or to be stopped is cancelled."""
        with self.turn:
            if not self.left:
                self._beat()

    def leave(self, own: ExitStack) -> None:
        """Give the folder back to others, by ending the contexts in which it is held."""
        with self.turn:
            self.left = True
            own.close()

    def _beat(self) -> None:
        event = self.event
        try:
            self.held.beat(event.phase, event.done, event.total, event.note)
        except FolderBusy:
            self.lost = True
            self.work.cancel()
        except StorageError:  # a full disk, of which the work itself speaks
            pass
        if is_cancelled(self.song.control, Path(self.song.folder)):
            self.work.cancel()


def run_unit(unit: Unit, node: str, name: str, helpers: Helpers | None = None) -> Report:
    """Work on a unit on the machine with this id and name until its songs have ended the phase.

    `helpers` are the other machines, for a song that is spread.
    """
    stop = threading.Event()
    outcomes: list[Outcome] = []
    report_aborts(partial(_note_abort, unit))
    with ExitStack() as held:
        active: list[_Active] = []
        for ready in _ready_songs(unit, outcomes):
            try:
                active.append(held.enter_context(_entered(unit, ready, node, name)))
            except Exception as error:
                outcomes.append(_failure(ready.song, error))
        if active:
            with _beating(active, stop):
                _work_on(unit, active, stop, helpers)
            outcomes += [_outcome(each) for each in active]
    return Report(node, tuple(outcomes))


def _note_abort(unit: Unit, error: YueError) -> None:
    for control in {song.control for song in unit.songs}:
        note_abort(control, unit.name, error.message)


def _ready_songs(unit: Unit, outcomes: list[Outcome]) -> list[_ReadySong]:
    """The songs that can be begun here; `outcomes` gets those of the others.

    Models may be copied for minutes, so they are looked for before a lease needs signs of life.
    """
    ready: list[_ReadySong] = []
    for song in unit.songs:
        try:
            check_control(song.control)
        except StorageError as error:
            outcomes.append(Outcome(song.folder, "unfit", error=error_facts(error)))
            continue
        try:
            folder = SongFolder.open(Path(song.folder))
            ready.append(_ReadySong(song, folder, models_on_node(folder, unit.places)))
        except Exception as error:
            outcomes.append(_failure(song, error))
    return ready


@contextmanager
def _entered(unit: Unit, ready: _ReadySong, node: str, name: str) -> Iterator[_Active]:
    """A song that is held and claimed, with its work. Raises YueError."""
    song, folder = ready.song, ready.folder
    with ExitStack() as own:
        held = own.enter_context(leased(folder.path, unit.name, name, song.supersede, machine=node))
        own.enter_context(folder.claimed(by_lease=True))
        held.beat()  # the first one says that the folder is locked
        active: list[_Active] = []

        def report(event: Event) -> None:
            for each in active:
                if event.warning:
                    each.warnings.append(event.warning)
                else:
                    each.event = event

        def at_end(ended: SongWork) -> None:
            if ended.cancelled:  # others of the unit may go on for an hour
                active[0].leave(own)

        work = SongWork(
            folder,
            ready.models,
            unit.compute,
            report,
            early=without_draft if song.refine else as_it_was,
            at_end=at_end,
            only=PHASES_OF[unit.phase],
        )
        active.append(_Active(song, held, work))
        yield active[0]


def _work_on(unit: Unit, active: list[_Active], stop: threading.Event, helpers: Helpers | None) -> None:
    scheduler = Scheduler(unit.parallel, stop)
    for each in active:
        if unit.spread and helpers is not None:
            part = SongPart(
                each.song.folder, each.song.control, unit.compute, unit.places, card_bytes=unit.card_bytes
            )
            spread(each.work, helpers, part, stop, refused=unit.refused)
        scheduler.submit(each.work)
    scheduler.run()


@contextmanager
def _beating(active: list[_Active], stop: threading.Event) -> Iterator[None]:
    """Give signs of life for the songs inside the block, and pass on what the driver asks."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            for each in active:
                with suppress(Exception):  # the next sign may come through
                    each.beat()
            if is_stopped(active[0].song.control):
                stop.set()

    thread = threading.Thread(target=beat, name="signs-of-life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _outcome(active: _Active) -> Outcome:
    """Outcome of a song that has ended here."""
    try:
        active.work.result()
        ended = Outcome(active.song.folder, "done", where(active.work.folder))
    except Exception as error:
        ended = _failure(active.song, error)
    if active.lost and ended.kind == "interrupted":
        ended = replace(ended, kind="busy")
    return replace(ended, warnings=tuple(active.warnings))


def _failure(song: UnitSong, error: Exception) -> Outcome:
    if isinstance(error, FolderBusy):
        return Outcome(song.folder, "busy", error=error_facts(error))
    if isinstance(error, Interrupted):
        return Outcome(song.folder, "interrupted", error=error_facts(error))
    return Outcome(song.folder, "failed", error=error_facts(error))
