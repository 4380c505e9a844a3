"""Leftovers of an earlier server: songs that it worked on, and recordings of no song."""

from __future__ import annotations

import shutil
from pathlib import Path

from yuegguf.server.jobs import JobStore
from yuegguf.server.shelf import Shelf


def recover(store: JobStore, shelf: Shelf, uploads: Path) -> None:
    """Put what an earlier server worked on back into the queue, at its place; remove recordings of no song.

    Raises YueError.
    """
    there = shelf.ids()
    for job in store.all("new", "processing"):
        if job.task or {job.song, job.song.rpartition(":")[0]} & there.keys():
            store.change(job.song, "queued")
        else:  # its folder never appeared: nobody was told of it
            store.delete([job.song])
    known = {job.uploads for job in store.all()}
    others = [folder for folder in uploads.glob("*") if folder.name not in known]
    for folder in shelf.unnamed(others):
        shutil.rmtree(folder, ignore_errors=True)
