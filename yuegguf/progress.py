"""The one progress callback. Stages report to it; only the command line draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One step forward in one phase of a song."""

    phase: str
    """"draft" (stage 1), "refine" (stage 2), "master" (rendering); "convert", "export",
    "download", "verify", "copy"."""
    done: int
    """What is finished: frames of the phase; files when exporting; bytes of all else."""
    total: int
    """All there is to do; an upper bound in the draft, where sections may end early."""
    note: str = ""
    """What is happening, for people: "section 2 of 6, chorus"."""
    warning: str = ""
    """Something a person should know; such an event is no step forward."""


Progress = Callable[[Event], None]
"""Called from the thread that does the work, at most once per step. It may raise
:class:`~yuegguf.errors.Interrupted` to stop the job: everything reported so far is already kept."""


def silent(event: Event) -> None:
    """Ignore the event: the progress of a caller who does not want any."""
