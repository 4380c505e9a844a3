"""Type of the progress callback: stages report to it; only the command line displays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Progress of one phase of a song."""

    phase: str
    """"draft" (stage 1), "refine" (stage 2), "master" (rendering); "convert", "export",
    "encode", "import", "download", "verify", "copy", "check"."""
    done: int
    """Amount done: frames of a phase; files when exporting or encoding; bytes otherwise."""
    total: int
    """Amount in total; an upper bound in the draft, where sections may end early."""
    note: str = ""
    """Current activity, for people: "section 2 of 6, chorus"."""
    warning: str = ""
    """Warning for the user; such an event carries no progress."""


Progress = Callable[[Event], None]
"""Called from the thread that does the work, at most once per step. It may raise
:class:`~yuegguf.errors.Interrupted` to stop the job: everything reported so far is already kept."""


def silent(event: Event) -> None:
    """Ignore the event: the default progress callback."""
