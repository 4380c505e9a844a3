"""The driver: it brings songs to their ends on the machines of a cluster, one unit after the other.

A song is a folder and the phase that comes next. A unit is one phase of one song, or of several. The driver
gives units to the cluster, and takes their reports; whatever becomes of a machine, a unit or the driver
itself, the folders hold all that was achieved. Retries are counted here, and are few.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from yuegguf.cluster import control
from yuegguf.cluster.backend import Backend, still_unfit
from yuegguf.cluster.batches import next_batch, ready_songs
from yuegguf.cluster.cluster_song import ClusterSong, SubmittedUnit
from yuegguf.cluster.driver_options import DriverOptions
from yuegguf.cluster.placement import COORDINATOR, can_spread, need_of, none_fit, too_small
from yuegguf.cluster.unit import (
    Control,
    Loss,
    Need,
    Node,
    Outcome,
    Report,
    Unit,
    UnitPhase,
    UnitSong,
    unit_phase,
)
from yuegguf.errors import Interrupted, YueError

LOOK_SECONDS = 1.0
"""Most seconds between two looks at the cluster."""
MOST_FAILURES = 3
"""Machines on which a song may fail before it has failed."""
MOST_LOSSES = 10
"""Units that may be lost under a song before it has failed."""
STOP_SECONDS = 30.0
"""Most seconds that units have to stop; then they are ended, which loses nothing."""
CHECK_SECONDS = 30.0
"""Seconds after which a machine that could not work on songs is asked whether it can now."""
REPORT_SECONDS = 5.0
"""Seconds between two writes of driver.json."""
SPARE = 2
"""Units in the cluster for each place in it, so that no machine waits for the driver."""


class Driver:
    """Songs on a cluster, in the manner of a `Scheduler`."""

    def __init__(
        self,
        backend: Backend,
        options: DriverOptions,
        stop: threading.Event | None = None,
        more: Callable[[], bool] = lambda: False,
    ) -> None:
        """Setting `stop` ends all songs with Interrupted; `more` may submit another song when asked."""
        self._backend, self._options = backend, options
        self._stop, self._more = stop or threading.Event(), more
        self.name = f"driver-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._songs: list[ClusterSong] = []
        self._added: list[ClusterSong] = []
        """Songs that were added since the last turn."""
        self._units: dict[str, SubmittedUnit] = {}
        """Units in the cluster."""
        self._lost: set[str] = set()
        """Units that are known to be gone."""
        self.unfit: dict[str, str] = {}
        """Machines that cannot work on any song → why."""
        self._controls: dict[Path, Control] = {}
        self._count, self._next_look, self._next_report, self._next_check = 0, 0.0, 0.0, 0.0
        self._failed: dict[str, str] = {}
        """Folders of songs that have failed → why."""

    def submit(self, *songs: ClusterSong) -> None:
        """Add songs; any thread may call it, also during `run`."""
        with self._lock:
            self._songs += songs
            self._added += songs

    @property
    def songs(self) -> list[ClusterSong]:
        """The songs that have not ended."""
        with self._lock:
            self._songs = [song for song in self._songs if not song.ended]
            return list(self._songs)

    def run(self) -> None:
        """Work until every song has ended; see `ClusterSong.result`."""
        try:
            while not self._stop.is_set() and (self.songs or self._more()):
                self.turn()
            self._end()
        finally:
            for each in self._controls.values():
                control.close_control(each)
            self._controls = {}

    def turn(self) -> None:
        """Give units to the cluster, and take what has ended."""
        for song in self.songs:
            if song.cancelled:
                self._cancel(song)
            elif song.phase == "done":
                song.come_to("done")
        self._submit_units()
        for name, ended in self._backend.wait(LOOK_SECONDS):
            self._take(name, ended)
        self._watch()
        self._check_unfit()
        self._report()

    def _report(self) -> None:
        """Write driver.json now and then."""
        if self._options.clock() < self._next_report:
            return
        self._next_report = self._options.clock() + REPORT_SECONDS
        machines = sum(node.id not in self.unfit for node in self._backend.nodes())
        for root, each in self._controls.items():
            failed = {
                folder: why for folder, why in self._failed.items() if Path(folder).is_relative_to(root)
            }
            left = sum(song.root == root for song in self.songs)
            host = socket.gethostname()
            control.write_driver(
                each, control.DriverFacts(self.name, host, machines, dict(self.unfit), left, failed)
            )

    def _watch(self) -> None:
        """Give up the units whose machines are gone or silent, also where the cluster does not say so."""
        now = self._options.clock()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        machines = {node.id for node in self._backend.nodes()}
        for name, unit in list(self._units.items()):
            looks = [song.look(machines, self._options.silent_seconds, now) for song in unit.songs]
            if reason := next(filter(None, looks), ""):
                self._backend.kill(name)
                self._take(name, Loss(reason))

    def _check_unfit(self) -> None:
        if self.unfit and self._controls and self._options.clock() >= self._next_check:
            self.unfit = still_unfit(self._backend, self.unfit, self._controls.values())
            self._next_check = self._options.clock() + CHECK_SECONDS

    def check_machines(self, root: Path) -> dict[str, str]:
        """Ids of the machines that cannot work on songs in a folder → why; they get none.

        Raises StorageError where no machine can.
        """
        nodes = self._backend.nodes()
        self.unfit |= self._backend.check(self._control(root))
        reasons = {node.id: self.unfit[node.id] for node in nodes if node.id in self.unfit}
        if nodes and len(reasons) == len(nodes):
            control.close_control(self._controls.pop(root))
            raise none_fit(next(iter(reasons.values())))
        return reasons

    def _end(self) -> None:
        """Stop the units that are left, and end the songs."""
        for each in self._controls.values():
            control.ask_to_stop(each)
        until = self._options.clock() + STOP_SECONDS
        while self._units and self._options.clock() < until:
            for name, ended in self._backend.wait(LOOK_SECONDS):
                self._take(name, ended)
        for name in list(self._units):
            self._backend.kill(name)
        for song in self.songs:
            self._fail(song, Interrupted("stopped"))

    def _cancel(self, song: ClusterSong) -> None:
        """End a song that waits, or ask the unit that works on it to."""
        if not song.unit:
            self._fail(song, Interrupted("stopped"))
            return
        control.ask_to_cancel(self._control(song.root), song.path)
        together = len(self._units[song.unit].songs) > 1  # the unit's report may come an hour later
        if together and song.has_left_its_unit():
            self._release(song)
            self._fail(song, Interrupted("stopped"))

    def _fail(self, song: ClusterSong, error: YueError) -> None:
        """End a song with an error."""
        if not isinstance(error, Interrupted):
            self._failed[str(song.path)] = error.message
        song.fail(error)

    # Units

    def _submit_units(self) -> None:
        nodes = [node for node in self._backend.nodes() if node.id not in self.unfit]
        self._recall(nodes)
        most = SPARE * max(1, sum(max(1, int(node.cpus)) for node in nodes))
        now, parallel = self._options.clock(), self._options.parallel
        with self._lock:
            self._added = []
        ready = ready_songs(self.songs, now)
        while len(self._units) < most and not self._stop.is_set():
            while len(ready) < parallel and self._more():
                with self._lock:
                    ready, self._added = ready_songs([*ready, *self._added], now), []
            if not ready:
                break
            self._submit(next_batch(ready, parallel), nodes)

    def _recall(self, nodes: Sequence[Node]) -> None:
        """Take back the units that wait for machines that are gone."""
        for name, unit in list(self._units.items()):
            if not any(node.holds(unit.need) and node.id not in unit.refused for node in nodes):
                self._backend.kill(name)
                del self._units[name]
                self._lost.add(name)
                for song in unit.songs:
                    self._release(song)

    def _submit(self, songs: Sequence[ClusterSong], nodes: Sequence[Node]) -> None:
        """Submit a unit of those of the songs whose folders are free; the others wait."""
        phase, options = unit_phase(songs[0].phase), self._options
        parts: dict[ClusterSong, UnitSong] = {}
        for song in songs:
            free, lease = song.free_lease(self._lost, options.silent_seconds, options.clock())
            if free:
                parts[song] = UnitSong(str(song.path), self._control(song.root), lease, song.refine)
            else:
                song.wait(LOOK_SECONDS, options.clock)
        if not parts:
            return
        need = self._need(parts, phase)
        while len(parts) > 1 and not any(node.holds(need) for node in nodes):  # as many as fit
            parts.popitem()
            need = self._need(parts, phase)
        if not self._placed(list(parts), need, nodes):
            return
        refused = frozenset({*self.unfit, *(node for song in parts for node in song.refused)})
        able = [node for node in nodes if node.holds(need) and node.id not in refused]
        spreading = sum(unit.spread for unit in self._units.values())
        alone = len(parts) == 1 and phase != "draft"
        spread = options.spread and alone and can_spread(need, able, spreading)
        if spread:  # a smaller machine would change the song's plan
            refused |= {node.id for node in nodes} - {node.id for node in able}
        self._count += 1
        unit = Unit(
            f"{self.name}/{self._count}",
            phase,
            tuple(parts.values()),
            songs[0].compute,
            options.parallel,
            options.places,
            spread,
            options.card_bytes,
            refused,
        )
        self._units[unit.name] = SubmittedUnit(list(parts), need, refused, spread)
        for song in parts:
            song.unit = unit.name
            self._failed.pop(str(song.path), None)
        self._backend.submit(unit, COORDINATOR if spread else need, refused)

    def _need(self, songs: Collection[ClusterSong], phase: UnitPhase) -> Need:
        plans, facts = [song.plan for song in songs], next(iter(songs)).facts
        return need_of(plans, facts, phase, self._options.card_bytes)

    def _control(self, root: Path) -> Control:
        if root not in self._controls:
            self._controls[root] = control.open_control(root, self.name)
        return self._controls[root]

    def _placed(self, songs: Sequence[ClusterSong], need: Need, nodes: Sequence[Node]) -> bool:
        """Whether a machine can hold the unit; where none can for too long, or all have failed, songs end."""
        able = [node for node in nodes if node.holds(need)]
        for song in songs:
            left = [node for node in able if node.id not in song.refused]
            if left:
                song.unplaced_since = None
                continue
            now = self._options.clock()
            if song.unplaced_since is None:
                song.unplaced_since = now
            if song.refused and able:  # it has failed on all of them
                self._fail(song, song.last_error)
            elif now - song.unplaced_since >= self._options.place_seconds:
                unfit = [self.unfit[each.id] for each in self._backend.nodes() if each.id in self.unfit]
                self._fail(song, none_fit(unfit[0]) if unfit and not nodes else too_small(need, unfit))
            else:
                song.wait(LOOK_SECONDS, self._options.clock)
        return all(song.unplaced_since is None for song in songs)

    # Reports

    def _take(self, name: str, ended: Report | Loss) -> None:
        unit = self._units.pop(name, None)
        if unit is None:  # it was given up before
            return
        songs = {str(song.path): song for song in unit.songs}
        for song in unit.songs:
            self._release(song)
        if isinstance(ended, Loss):
            self._lost.add(name)
            for song in unit.songs:
                aborted = control.abort_reason(self._control(song.root), name)
                self._take_loss(song, aborted or ended.reason)
            return
        for outcome in ended.outcomes:
            self._take_outcome(songs[outcome.folder], outcome, ended.node)

    def _release(self, song: ClusterSong) -> None:
        """Note that no unit works on a song; a request to cancel it does not outlive the unit."""
        song.unit = ""
        if song.cancelled:
            control.ask_to_cancel(self._control(song.root), song.path, take_back=True)

    def _take_loss(self, song: ClusterSong, reason: str) -> None:
        song.losses += 1
        if song.losses >= MOST_LOSSES:
            self._fail(
                song,
                YueError(
                    f"{song.losses} machines or processes ended while they worked on it ({reason})",
                    "look for a lack of memory; everything so far is kept",
                ),
            )

    def _take_outcome(self, song: ClusterSong, outcome: Outcome, node: str) -> None:
        if song.ended:  # it was cancelled, and another process may work on it
            return
        for text in outcome.warnings:
            song.warn(text)
        error = outcome.error.error(song.path) if outcome.error else None
        if outcome.kind == "done" and outcome.phase != song.phase:
            song.come_to(outcome.phase)
        elif outcome.kind == "unfit" and error is not None:
            self.unfit[node] = error.message
            self._next_check = self._options.clock() + CHECK_SECONDS
        elif outcome.kind == "busy":
            song.wait(LOOK_SECONDS, self._options.clock)
        elif outcome.kind == "interrupted":
            if not (song.cancelled or self._stop.is_set()):
                self._take_loss(song, "a unit was stopped")
        else:
            song.note_failure(node, error or YueError("it stays in its phase", "report it"))
            if len(song.refused) >= MOST_FAILURES:
                self._fail(song, song.last_error)
