"""The songs of a cluster in one view, from their folders alone: any machine that sees them can ask."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yuegguf.cluster.control import DriverFacts, read_drivers
from yuegguf.cluster.driver_options import SILENT_SECONDS
from yuegguf.song.lease import Lease, read_lease
from yuegguf.song.library import summarise
from yuegguf.song.lookup import check_parent, song_folders


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
        songs = [asdict(song) for song in self.songs]
        drivers = [{**asdict(driver), "age": round(driver.age, 1)} for driver in self.drivers]
        return {"counts": self.counts, "songs": songs, "drivers": drivers}


def cluster_status(parent: Path) -> ClusterStatus:
    """The songs and takes of a folder, by name. Raises RequestError where there is no such folder."""
    check_parent(parent)
    drivers = read_drivers(parent)
    songs = [_song(folder, drivers) for folder in sorted(song_folders(parent))]
    return ClusterStatus(tuple(songs), tuple(drivers))


def _song(folder: Path, drivers: Sequence[DriverFacts]) -> SongStatus:
    lease = read_lease(folder)
    summary = summarise(folder, busy=lease is not None)
    name = str(folder)
    if lease is not None and lease.holder is not None:
        return _in_work(name, summary.state, lease)
    if summary.state != "done" and not summary.problem and (reason := _failure(folder, drivers)):
        return SongStatus(name, "failed", problem=reason)
    return SongStatus(name, summary.state, problem=summary.problem)


def _failure(folder: Path, drivers: Sequence[DriverFacts]) -> str:
    """Why a driver has given a song up that has not changed since; empty where none has."""
    try:
        changed = time.time() - (folder / "song.json").stat().st_mtime
    except OSError:  # deleted meanwhile
        return ""
    reasons = (driver.failed.get(str(folder.absolute()), "") for driver in drivers if driver.age <= changed)
    return next(filter(None, reasons), "")


def _in_work(name: str, state: str, lease: Lease) -> SongStatus:
    holder = lease.holder
    assert holder is not None
    share = min(1.0, max(0.0, holder.done / holder.total)) if holder.total else None
    silent = lease.age >= SILENT_SECONDS
    return SongStatus(name, holder.phase or state, holder.node, share, holder.note, silent)


def _kind(song: SongStatus) -> str:
    if song.machine:
        return "silent" if song.silent else "working"
    if song.state in ("done", "draft done"):
        return "done"
    return "failed" if song.problem else "waiting"
