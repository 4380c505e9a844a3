"""A unit of work: one phase of one song, or of several that are computed together, on one machine.

All that a unit needs besides its facts is in the song folders, and so is all that it achieves. So it may be
lost at any moment and given to another machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from yuegguf import errors
from yuegguf.errors import NotInstalled, YueError
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.song.lease import Lease
from yuegguf.song.record import Phase

UnitPhase = Literal["draft", "refine", "master"]
UNIT_PHASES: tuple[UnitPhase, ...] = get_args(UnitPhase)
PHASES_OF: dict[UnitPhase, tuple[Phase, ...]] = {
    "draft": ("draft", "sketch"),
    "refine": ("refine",),
    "master": ("master",),
}
"""Phase of a unit → phases of a song that it takes."""
OutcomeKind = Literal["done", "failed", "busy", "interrupted", "unfit"]
"""done: the song has come to another phase; busy: another process works on it; unfit: the machine itself
cannot work on any song."""


def unit_phase(phase: Phase) -> UnitPhase:
    """The unit that takes a song's phase, which is not "done"."""
    return next(unit for unit, phases in PHASES_OF.items() if phase in phases)


@dataclass(frozen=True)
class ModelPlaces:
    """Folders in which a machine looks for models besides the files that song.json names."""

    folder: str = ""
    """Folder of installed models; empty = the machine's own."""
    kit: str = ""
    """Offline kit from which missing models are installed there; empty = none."""


@dataclass(frozen=True)
class Control:
    """The folder by which a driver speaks to its units, on the storage of the songs."""

    folder: str
    token: str
    """Random text in its file `token`: a machine that does not read it has another storage."""


@dataclass(frozen=True)
class UnitSong:
    """A song of a unit."""

    folder: str
    control: Control
    supersede: Lease | None = None
    """Lease of a lost unit."""
    refine: bool = False
    """Whether to go on beyond the draft that was asked for."""


@dataclass(frozen=True)
class Unit:
    """A unit of work."""

    name: str
    """Unique name, which stands in the leases."""
    phase: UnitPhase
    songs: tuple[UnitSong, ...]
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    parallel: int = 1
    """Songs that are computed together; with 1 each is computed as if it were alone."""
    places: ModelPlaces = field(default_factory=ModelPlaces)
    spread: bool = False
    """Whether the waves and the stems of a song are computed by other machines."""
    card_bytes: int | None = None
    """Memory of a GPU of the cluster, see `placement.need_of`."""
    refused: frozenset[str] = frozenset()
    """Ids of machines that get no part of a song that is spread."""


@dataclass(frozen=True)
class ErrorFacts:
    """A YueError that travels between machines."""

    kind: str
    message: str
    hint: str

    def error(self, folder: Path) -> YueError:
        """The error, with the song's folder in it."""
        kind = getattr(errors, self.kind, YueError)
        error: YueError = (YueError if kind is NotInstalled else kind)(self.message, self.hint)
        error.folder = folder
        return error


def error_facts(error: Exception) -> ErrorFacts:
    """Facts of any error."""
    known = errors.explained(error)
    kind = "ModelNotFound" if isinstance(known, NotInstalled) else type(known).__name__
    return ErrorFacts(kind, known.message, known.hint)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a unit for one of its songs."""

    folder: str
    kind: OutcomeKind
    phase: Phase = "draft"
    """Phase that comes next, where it is known."""
    error: ErrorFacts | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The outcomes of a unit that a machine has ended."""

    node: str
    """Id of the machine."""
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class Loss:
    """A unit that did not end: its process was killed, or its machine is gone."""

    reason: str


@dataclass(frozen=True)
class Need:
    """Resources of a unit."""

    cpus: float
    memory: int
    gpus: float = 0.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    name: str
    cpus: float
    memory: int
    gpus: float

    def holds(self, need: Need) -> bool:
        """Whether a unit of this need can ever run here."""
        return self.cpus >= need.cpus and self.memory >= need.memory and self.gpus >= need.gpus
