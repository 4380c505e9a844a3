"""Choice of the events of a worker's progress that the server is sent."""

from __future__ import annotations

from yuegguf.progress import Event

REPORT_SECONDS = 0.5
"""Least seconds between two reports of a phase."""


class Reports:
    """Reports of one song or task: a phase's first and last event, and others REPORT_SECONDS apart."""

    def __init__(self) -> None:
        self._phase, self._next = "", 0.0

    def are_due(self, event: Event, now: float) -> bool:
        """Whether an event at the time `now`, in seconds, is reported; it then counts as the last report."""
        if event.phase == self._phase and now < self._next and event.done < event.total:
            return False
        self._phase, self._next = event.phase, now + REPORT_SECONDS
        return True
