"""The scheduler: many songs on one set of models, in turns of their phases.

A turn opens one model, for the phase of the oldest song. In a turn of stage 1 songs take their steps in one
batch, and others join at any step (`draft_turn`); in a turn of stage 2 chunks of all songs share the rows
(`refine_turn`). What a song has reached is in its folder alone, so every turn starts from there. A song's
failure is its own result and stops no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from yuegguf.errors import Interrupted
from yuegguf.pipeline.draft_turn import DraftTurn
from yuegguf.pipeline.refine_turn import RefineTurn
from yuegguf.pipeline.song_queue import SongQueue
from yuegguf.pipeline.song_work import SongWork


class Runner(Protocol):
    """A scheduler, or the driver of a cluster in its place."""

    def submit(self, *works: Any) -> None:
        """Add a song, or the takes of one."""

    def run(self) -> None:
        """Work until every song has ended."""


class Scheduler:
    """Brings songs to their ends, several at once."""

    def __init__(
        self,
        parallel: int = 1,
        stop: threading.Event | None = None,
        more: Callable[[], bool] = lambda: False,
    ) -> None:
        """Draft at most `parallel` songs together; with 1 a song is computed as if it were alone.

        Setting `stop` ends all songs within a step with Interrupted. `more` is called when another song
        could begin and none waits; it may call `submit`, and returns whether it did.
        """
        self._parallel = parallel
        self._queue = SongQueue(stop or threading.Event(), more)

    def submit(self, *songs: SongWork) -> None:
        """Add a song as the youngest, or takes that are drafted together and count as one song.

        Any thread may call it, also during `run`.
        """
        self._queue.add(songs)

    def run(self) -> None:
        """Work until every song has ended; see `SongWork.result`.

        Raises what `more` or a song's `at_end` raises, once the turn is over, which no song joins then.
        """
        try:
            while self._queue.caller_error is None and (self._queue.groups() or self._another()):
                if self._queue.groups():
                    self._turn()
            if self._queue.caller_error is not None:
                raise self._queue.caller_error
        finally:
            for work in self._queue.works():
                work.release()

    def _another(self) -> bool:
        return not self._queue.stop.is_set() and self._queue.more()

    def _turn(self) -> None:
        """A turn of the phase that the oldest song comes to next."""
        if self._queue.stop.is_set():
            for work in self._queue.works():
                work.fail(Interrupted("stopped"))
            return
        works = self._queue.begin(self._queue.groups()[0])
        if not works:
            return
        lead = works[0]
        if lead.phase == "draft":
            DraftTurn(lead, self._queue, self._parallel).run()
        elif lead.phase == "refine":
            waiting = [work for work in self._queue.works() if work.begun and work.phase == "refine"]
            RefineTurn(lead, waiting if self._parallel > 1 else [lead]).run()
        else:
            lead.write_audio()
