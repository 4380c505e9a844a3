"""The place where the songs of a worker are computed: its own process, or what stands in its place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from yuegguf.models.resolve import Models
from yuegguf.pipeline.scheduler import Runner, Scheduler
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Progress
from yuegguf.request.preview_options import as_it_was, without_draft
from yuegguf.song.folder import SongFolder


class Place(Protocol):
    """The place where the songs of a worker are computed."""

    def runner(self, stop: threading.Event, more: Callable[[], bool]) -> Runner:
        """The runner of its works."""

    def work(
        self,
        folder: SongFolder,
        models: Models,
        compute: ComputeOptions,
        progress: Progress,
        at_end: Callable[[Any], None],
        *,
        refine: bool,
    ) -> Any:
        """The work on a song; with `refine` beyond a draft that was asked for."""


@dataclass(frozen=True)
class ThisProcess:
    """The songs of a worker on a scheduler in its process."""

    parallel: int

    def runner(self, stop: threading.Event, more: Callable[[], bool]) -> Runner:
        """A scheduler."""
        return Scheduler(self.parallel, stop, more)

    def work(
        self,
        folder: SongFolder,
        models: Models,
        compute: ComputeOptions,
        progress: Progress,
        at_end: Callable[[Any], None],
        *,
        refine: bool,
    ) -> SongWork:
        """The work on a song; with `refine` beyond a draft that was asked for."""
        early = without_draft if refine else as_it_was
        return SongWork(folder, models, compute, progress, early=early, at_end=at_end)
