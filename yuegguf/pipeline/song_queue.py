"""The songs of a scheduler, by age."""

from __future__ import annotations

import threading
from collections.abc import Callable

from yuegguf.errors import Interrupted
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import Devices

Group = tuple[SongWork, ...]
"""A song, or takes of one request, which are drafted together and count as one."""


class SongQueue:
    """Songs that have not ended, the oldest first; any thread may add some."""

    def __init__(self, stop: threading.Event, more: Callable[[], bool]) -> None:
        """`more` adds a song if there is another one, and says whether it did."""
        self.stop, self._more = stop, more
        self._groups: list[Group] = []
        self._lock = threading.Lock()
        self.version = 0
        """Number of groups that were ever added."""
        self._caller_error: Exception | None = None

    def add(self, group: Group) -> None:
        """Add a group as the youngest."""
        with self._lock:
            self._groups.append(group)
            self.version += 1

    def groups(self) -> list[Group]:
        """The groups with a song that has not ended."""
        with self._lock:
            ended = (work.report_error for group in self._groups for work in group)
            self._caller_error = self._caller_error or next(filter(None, ended), None)
            self._groups = [group for group in self._groups if not all(work.ended for work in group)]
            return list(self._groups)

    @property
    def caller_error(self) -> Exception | None:
        """First error of the caller's `more`, or of a song's `at_end`."""
        self.groups()
        return self._caller_error

    @property
    def may_begin(self) -> bool:
        """Whether other songs may begin: nothing has stopped them, and the caller has not failed."""
        return not self.stop.is_set() and self.caller_error is None

    def more(self) -> bool:
        """Let the caller add another song; whether it did. Its failure is `caller_error`."""
        try:
            return self._more()
        except Exception as error:
            self._caller_error = self._caller_error or error
            return False

    def works(self) -> list[SongWork]:
        """The songs that have not ended."""
        return [work for group in self.groups() for work in group if not work.ended]

    def begin(self, group: Group, before: Devices | None = None) -> list[SongWork]:
        """Begin with the songs of a group; returns those that have not ended.

        `before`: see `song_work.note_plan`.
        """
        for work in group:
            if work.cancelled and not work.ended:
                work.fail(Interrupted("stopped"))
            elif not (work.begun or work.ended):
                work.begin(self.stop, before=before)
        return [work for work in group if not work.ended]
