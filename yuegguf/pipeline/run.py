"""One song folder that is there, from wherever it is to its end."""

from __future__ import annotations

import threading

from yuegguf.models.resolve import Models
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_work import EarlyChange, SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Progress
from yuegguf.request.preview_options import as_it_was
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder


def run_song(
    folder: SongFolder,
    models: Models,
    options: ComputeOptions,
    progress: Progress,
    stop: threading.Event | None,
    *,
    early: EarlyChange = as_it_was,
) -> Song:
    """Work on a song folder until it is done; `early` changes what is written before it is finished.

    Nothing in it changes before it is claimed and everything is checked. Raises YueError, with the folder in
    it.
    """
    scheduler, work = Scheduler(stop=stop), SongWork(folder, models, options, progress, early=early)
    scheduler.submit(work)
    scheduler.run()
    return work.result()
