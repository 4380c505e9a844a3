"""A song that a driver brings to its end on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from yuegguf.cluster.unit import Need
from yuegguf.errors import DamagedFile, Interrupted, RequestError, YueError
from yuegguf.models.resolve import Models
from yuegguf.pipeline import preflight
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.plan import Plan, StageFacts
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.preview_options import without_draft
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import Lease, read_lease
from yuegguf.song.markers import repaired_song
from yuegguf.song.record import Phase
from yuegguf.song.state import where

Clock = Callable[[], float]


class ClusterSong:
    """A song folder on the shared storage, the phase that comes next, and what went wrong so far."""

    def __init__(
        self,
        folder: SongFolder,
        models: Models,
        compute: ComputeOptions,
        progress: Progress = silent,
        at_end: Callable[[ClusterSong], None] = lambda song: None,
        *,
        root: Path | None = None,
        refine: bool = False,
    ) -> None:
        """`root` is the folder of songs, by default the folder's parent; `refine` goes on beyond a draft.

        Raises DamagedFile for a song that does not say how it is computed, RequestError for one with layers
        on an RPC server.
        """
        self.folder, self.path, self.refine = folder, folder.path.absolute(), refine
        self.compute = compute
        self.root = (root or folder.path.parent).absolute()
        self._progress, self._at_end = progress, at_end
        if folder.record.plan is None:
            raise DamagedFile(f"{self.path} does not say how it is computed", "start the song again")
        self.plan: Plan = folder.record.plan
        if self.plan.rpc_server:
            raise RequestError(
                "an RPC server holds layers for one machine, not for a cluster", "leave --device out"
            )
        self.facts = stage_facts(models, bool(folder.early.preview_seconds))
        self.load = (models, compute, self.plan.threads, self.plan.kv_type, self.plan.flash_attention)
        """Settings of songs that can be computed together."""
        self.phase = _next_phase(folder, refine)
        self.unit = ""
        """Name of the unit that works on the song."""
        self.refused: dict[str, YueError] = {}
        """Machines on which this phase has failed → why."""
        self.losses = 0
        """Units of this phase that were lost."""
        self.unplaced_since: float | None = None
        self.cancelled = False
        self._wait_until = 0.0
        self._seen: tuple[Lease | None, float] = None, 0.0
        """Lease of another process that was seen, and since when it gives no sign of life."""
        self._begun_unit = ""
        """Name of the newest unit that was seen to hold the folder."""
        self._outcome: Song | YueError | None = None

    @property
    def ended(self) -> bool:
        """Whether the song is done, or has failed or been stopped."""
        return self._outcome is not None

    @property
    def in_trouble(self) -> bool:
        """Whether a unit of this phase was lost or has failed; the song is then computed alone."""
        return bool(self.losses or self.refused)

    def result(self) -> Song:
        """The song, once it has ended. Raises what ended it, with the folder in a YueError."""
        if isinstance(self._outcome, YueError):
            raise self._outcome
        if self._outcome is None:
            raise Interrupted(f"{self.path} has not ended yet", "run the driver first")
        return self._outcome

    def cancel(self) -> None:
        """Stop this song within a token; `result` then raises Interrupted. Any thread may call it."""
        self.cancelled = True

    def is_ready(self, now: float) -> bool:
        """Whether a unit may begin with the song."""
        return not (self.unit or self.ended or now < self._wait_until)

    def wait(self, seconds: float, clock: Clock) -> None:
        """Look at the song again after so many seconds."""
        self._wait_until = clock() + seconds

    def free_lease(
        self, lost: Collection[str], silent_seconds: float, now: float
    ) -> tuple[bool, Lease | None]:
        """Whether a unit may take the song's folder now, and the lease that it takes over.

        The lease of a unit that is `lost` is taken over at once, that of any other process once it has given
        no sign of life for so long.
        """
        lease = read_lease(self.path)
        if lease is None or (lease.holder and lease.holder.unit in lost):
            return True, lease
        seen, since = self._seen
        if seen is None or (seen.number, seen.holder) != (lease.number, lease.holder):
            self._seen = lease, now
            return False, None
        return now - since >= silent_seconds, lease

    def come_to(self, phase: Phase) -> None:
        """Begin the next phase, or end the song. Each phase has its own retries."""
        self.phase, self.refused, self.losses = phase, {}, 0
        if phase == "done":
            try:
                self._end(repaired_song(SongFolder.open(self.path)))
            except YueError as error:
                self.fail(error)

    def note_failure(self, node: str, error: YueError) -> None:
        """Store that the phase has failed on a machine."""
        self.refused[node] = error

    @property
    def last_error(self) -> YueError:
        """Error of the last machine on which the phase has failed."""
        return list(self.refused.values())[-1]

    def look(self, machines: Collection[str], silent_seconds: float, now: float) -> str:
        """Report the progress of the unit that works on the song; why the unit is lost, or an empty string.

        It is lost where its machine is none of `machines`, or it gave no sign of life for so long.
        """
        lease = read_lease(self.path) if self.unit else None
        holder = lease.holder if lease else None
        if holder is None or holder.unit != self.unit:  # it has not begun
            return ""
        self._begun_unit = self.unit
        if holder.machine not in machines:
            return f"{holder.node} is gone"
        if holder.phase:
            self._progress(Event(holder.phase, holder.done, holder.total, holder.note))
        seen, since = self._seen
        if seen is None or seen.holder != holder:
            self._seen = lease, now
        elif now - since >= silent_seconds:
            return f"{holder.node} gives no sign of life"
        return ""

    def has_left_its_unit(self) -> bool:
        """Whether its unit, which goes on with others, was seen to hold the folder and has given it back."""
        if self._begun_unit != self.unit:
            return False
        lease = read_lease(self.path)
        return lease is None or (lease.holder is not None and lease.holder.unit != self.unit)

    def warn(self, text: str) -> None:
        """Report a warning."""
        self._progress(Event("draft", 0, 1, warning=text))

    def fail(self, error: YueError) -> None:
        """End the song with an error."""
        error.folder = self.path
        self._end(error)

    def _end(self, outcome: Song | YueError) -> None:
        self._outcome = outcome
        self._at_end(self)


@dataclass(frozen=True)
class SubmittedUnit:
    """A unit in the cluster."""

    songs: list[ClusterSong]
    need: Need
    """Resources that it takes, or each of its parts if it is spread."""
    refused: frozenset[str]
    """Ids of machines that do not get it."""
    spread: bool = False


def _next_phase(folder: SongFolder, refine: bool) -> Phase:
    """The phase that comes next; with `refine` beyond a draft that was asked for."""
    if not refine:
        return where(folder)
    early = without_draft(folder.early)
    return where(SongFolder(folder.path, folder.record.changed(early=early)))


@lru_cache(64)
def stage_facts(models: Models, preview: bool) -> StageFacts:
    """Sizes of a song's models, read once. Raises ModelNotFound, DamagedFile."""
    return preflight.read_models(models, preview).facts
