"""Type of the progress callback: stages report to it; only the command line displays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial


@dataclass(frozen=True)
class Event:
    """Progress of one phase of a song."""

    phase: str
    """"draft" (stage 1), "refine" (stage 2), "master" (rendering); "convert", "export",
    "encode", "import", "download", "verify", "copy", "check"."""
    done: int
    """Amount done: frames of a phase; files when exporting, or recordings and parts of them when encoding;
    bytes otherwise."""
    total: int
    """Amount in total; an upper bound in the draft, where sections may end early."""
    note: str = ""
    """Current activity, for people: "section 2 of 6, chorus"."""
    warning: str = ""
    """Warning for the user; such an event carries no progress."""
    section: int = 0
    """Number of the section that is being drafted, from 1; 0 in all else."""


Progress = Callable[[Event], None]
"""Called from the thread that does the work, at most once per step. It may raise
:class:`~yuegguf.errors.Interrupted` to stop the job: everything reported so far is already kept."""


def silent(event: Event) -> None:
    """Ignore the event: the default progress callback."""


def part_of(progress: Progress, before: int, total: int) -> Progress:
    """The callback of a part of a job: its amounts begin at `before` of the `total` of the job."""
    return lambda event: progress(replace(event, done=before + event.done, total=total))


class ProgressSum:
    """Progress of several jobs as that of one: their amounts in a phase are added."""

    def __init__(self, progress: Progress, count: int, noun: str) -> None:
        """Report to `progress`; `noun` is what the `count` jobs are called, in the plural."""
        self._progress, self._count, self._noun = progress, count, noun
        self._events: dict[tuple[str, int], Event] = {}
        """Phase and number of a job → its newest event."""

    def part(self, number: int, name: str) -> Progress:
        """The callback of one job, whose warnings begin with its name."""
        if self._count == 1:
            return self._progress
        return partial(self._report, number, name)

    def _report(self, number: int, name: str, event: Event) -> None:
        if event.warning:
            self._progress(replace(event, warning=f"{name}: {event.warning}"))
            return
        self._events[event.phase, number] = event
        same = [each for (phase, _), each in self._events.items() if phase == event.phase]
        done, total = sum(each.done for each in same), sum(each.total for each in same)
        note = f"{self._count} {self._noun}, {event.note}"
        self._progress(replace(event, done=done, total=total, note=note))
