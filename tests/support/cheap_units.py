"""Units with cheap engines, in the processes of a real cluster's machines."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cheap

from yuegguf.cluster.spreading import Answer, Helpers, Job, run_job
from yuegguf.cluster.unit import Report, Unit
from yuegguf.cluster.work import run_unit
from yuegguf.pipeline.song_work import SongWork
from yuegguf.progress import Event

LOST_FILE, EVENTS = "one machine was lost", 40
"""File that says so, and the number of events of a draft after which it is."""


def run_cheap_unit(unit: Unit, node: str, name: str, helpers: Helpers) -> Report:
    """Work on a unit with them."""
    cheap.install(setattr)
    return run_unit(unit, node, name, helpers)


def run_cheap_job(job: Job) -> Answer:
    """Compute a part of a song with them."""
    cheap.install(setattr)
    return run_job(job)


def run_and_lose_a_machine(unit: Unit, node: str, name: str, helpers: Helpers) -> Report:
    """Work on a unit; the first draft takes its machine with it when it is half done."""
    import ray

    flag = Path(unit.songs[0].folder).parent / LOST_FILE
    head = next(each["NodeID"] for each in ray.nodes() if "node:__internal_head__" in each["Resources"])
    if unit.phase == "draft" and node != head and not flag.exists():
        _lose_machine_after(EVENTS, flag)
    return run_cheap_unit(unit, node, name, helpers)


def _lose_machine_after(events: int, flag: Path) -> None:
    """Kill Ray's own process on this machine, which is this one's parent, at an event of a draft."""
    plain, seen = SongWork.progress, []

    def progress(work: SongWork, event: Event) -> None:
        plain(work, event)
        seen.append(event)
        if len(seen) == events:
            flag.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()  # until this process is ended, too

    SongWork.progress = progress  # type: ignore[method-assign]
