"""Leftovers of an earlier server: songs that it worked on, and recordings of no song."""

from __future__ import annotations

import shutil
from pathlib import Path

from yuegguf.server.jobs import JobStore
from yuegguf.server.shelf import Shelf
from yuegguf.server.tasks import TASK_PREFIX


def recover(store: JobStore, shelf: Shelf, uploads: Path) -> None:
    """Put what an earlier server worked on back into the queue, at its place.

    Rows and recordings of songs that are not there are removed. Raises YueError.
    """
    there = shelf.ids()
    for job in store.all():
        is_task = job.song.startswith(TASK_PREFIX)
        if not is_task and not {job.song, job.song.rpartition(":")[0]} & there.keys():
            store.delete([job.song])  # its folder never appeared, or was deleted by hand
        elif job.state in ("new", "processing"):
            store.change(job.song, "queued")
    known = {job.uploads for job in store.all()}
    others = [folder for folder in uploads.glob("*") if folder.name not in known]
    for folder in shelf.unnamed(others):
        shutil.rmtree(folder, ignore_errors=True)
