"""Measurements in the order of their importance, as many as fit into a given time; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OVERRUN = 3.0
"""Most time that a measurement may take, in expected ones, so that one that hangs leaves time for others."""


@dataclass(frozen=True)
class Job:
    """One measurement in a process of its own."""

    name: str
    title: str
    work: str
    """Name of its function in `work.WORK`."""
    seconds: Mapping[str, float]
    """Model family → expected seconds."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A measurement's table, or the reason why there is none."""

    job: str
    title: str
    seconds: float
    """Seconds that it took."""
    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What it left out of itself, and why."""
    peak: int | None = None
    """Peak bytes of main memory of its process."""
    gpu_peak: int | None = None
    """Peak bytes of device memory beside what was in use before; None = unknown."""
    left_out: str = ""
    """Reason why there is no table."""


def run_in_order(
    jobs: Sequence[Job], model: str, left: Callable[[], float], run: Callable[[Job, float], Outcome]
) -> list[Outcome]:
    """Run the jobs that fit into the seconds `left`, first ones first.

    `run` takes a job and the seconds after which it is ended. A job that does not fit is left out, and
    cheaper ones behind it still run.
    """
    outcomes = []
    for job in jobs:
        needed, room = job.seconds[model], left()
        if needed > room:
            reason = f"needs about {needed:.0f} s, and {max(0.0, room):.0f} s were left"
            outcomes.append(Outcome(job.name, job.title, 0.0, left_out=reason))
        else:
            outcomes.append(run(job, min(room, OVERRUN * needed)))
    return outcomes


def markdown(heading: str, outcomes: Sequence[Outcome]) -> list[str]:
    """A table for each measurement, then what was left out and why."""
    lines = [f"# {heading}"]
    for outcome in outcomes:
        if outcome.left_out:
            continue
        held = [f"{outcome.seconds:.0f} s"]
        if outcome.gpu_peak is not None:
            held.append(f"{outcome.gpu_peak / 2**30:.2f} GiB of the device")
        if outcome.peak is not None:
            held.append(f"{outcome.peak / 2**30:.2f} GiB of main memory")
        lines += ["", f"## {outcome.title}", "", f"Measured in {', '.join(held)}.", ""]
        lines += [f"| {' | '.join(outcome.columns)} |", "|---" * len(outcome.columns) + "|"]
        lines += [f"| {' | '.join(map(cell, row))} |" for row in outcome.rows]
        lines += ["", *(f"- {note}" for note in outcome.notes)] if outcome.notes else []
    missing = [outcome for outcome in outcomes if outcome.left_out]
    if missing:
        lines += ["", "## Left out", ""]
        lines += [f"- {outcome.title}: {outcome.left_out}" for outcome in missing]
    return lines


def cell(value: object) -> str:
    """A number with three significant digits, or text as it is."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
