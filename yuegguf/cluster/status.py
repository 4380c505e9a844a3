"""The songs of a cluster in one view, from their folders alone: any machine that sees them can ask."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yuegguf.cluster.control import DriverFacts, read_drivers
from yuegguf.errors import RequestError
from yuegguf.song.lease import Lease, read_lease
from yuegguf.song.library import summarise
from yuegguf.song.lookup import song_folders

SILENT_SECONDS = 30.0
"""Age of a sign of life from which on a machine counts as silent."""


@dataclass(frozen=True)
class SongStatus:
    """A song on a cluster."""

    folder: str
    state: str
    """Phase that comes next or is in work, "draft done", "done", "failed" or "damaged"."""
    machine: str = ""
    """Machine that works on it."""
    share: float | None = None
    """Share of the phase that is done, 0 … 1."""
    note: str = ""
    silent: bool = False
    """Whether its machine gives no sign of life."""
    problem: str = ""


@dataclass(frozen=True)
class ClusterStatus:
    """All songs of a folder, and the drivers at work."""

    songs: tuple[SongStatus, ...]
    drivers: tuple[DriverFacts, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of songs by what becomes of them: working, silent, waiting, done, failed."""
        found = dict.fromkeys(("working", "silent", "waiting", "done", "failed"), 0)
        for song in self.songs:
            found[_kind(song)] += 1
        return found

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        songs, drivers = ([asdict(each) for each in part] for part in (self.songs, self.drivers))
        return {"counts": self.counts, "songs": songs, "drivers": drivers}


def cluster_status(parent: Path) -> ClusterStatus:
    """The songs and takes of a folder, by name. Raises RequestError where there is no such folder."""
    if not parent.is_dir():
        raise RequestError(f"there is no folder {parent}", "pass the folder that holds songs")
    drivers = read_drivers(parent)
    failed = {folder: reason for driver in drivers for folder, reason in driver.failed.items()}
    songs = [_song(folder, failed) for folder in sorted(song_folders(parent))]
    return ClusterStatus(tuple(songs), tuple(drivers))


def _song(folder: Path, failed: dict[str, str]) -> SongStatus:
    lease = read_lease(folder)
    summary = summarise(folder, busy=lease is not None)
    name = str(folder)
    if lease is not None and lease.holder is not None:
        return _in_work(name, summary.state, lease)
    if reason := failed.get(str(folder.absolute())):
        return SongStatus(name, "failed", problem=reason)
    return SongStatus(name, summary.state, problem=summary.problem)


def _in_work(name: str, state: str, lease: Lease) -> SongStatus:
    holder = lease.holder
    assert holder is not None
    share = holder.done / holder.total if holder.total else None
    silent = lease.age >= SILENT_SECONDS
    return SongStatus(name, holder.phase or state, holder.node, share, holder.note, silent)


def _kind(song: SongStatus) -> str:
    if song.machine:
        return "silent" if song.silent else "working"
    if song.state in ("done", "draft done"):
        return "done"
    return "failed" if song.problem else "waiting"
