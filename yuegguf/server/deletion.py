"""Deletion of songs with their rows and uploads."""

from __future__ import annotations

import shutil

from yuegguf.files.atomic import storage_errors
from yuegguf.pipeline.takes import folders
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service
from yuegguf.song.library import remove_songs


def delete_song(service: Service, song: str, *, force: bool = False) -> None:
    """Delete a song with all its files, its takes too; with `force` also files of others in its folder.

    A damaged one is deleted as any other. Raises YueError where it is in work or its folder is not safe;
    nothing is changed then.
    """
    folder, rows = service.shelf.path(song), service.rows_of(song)
    takes = folders(folder)
    waiting = [row.song for row in rows if row.state == "queued"]
    stopped = [each for each in waiting if service.store.take(each, "queued", "canceled")]
    try:
        if stopped != waiting or any(row.state == "processing" for row in rows):
            raise HttpProblem(409, "in_work", "the song is being generated", "cancel it first")
        remove_songs(takes or [folder], force=force, damaged=True)
    except BaseException:
        for each in stopped:
            service.store.take(each, "canceled", "queued")
        raise
    gone = {song, *(f"{song}:{take.name}" for take in takes)}
    for emptied in (folder, folder.parent):  # those of takes
        with storage_errors(emptied):
            if emptied != service.settings.songs and emptied.is_dir() and not any(emptied.iterdir()):
                emptied.rmdir()
                gone.add(emptied.name)
    rows = [row for each in gone for row in service.rows_of(each)]
    service.store.delete([row.song for row in rows])
    uploads = [service.settings.uploads / row.uploads for row in rows if row.uploads]
    for unused in service.shelf.unnamed(uploads):  # a song that goes on from this one names them too
        shutil.rmtree(unused, ignore_errors=True)
    for each in gone | {row.song for row in rows}:
        service.hub.publish(each, "done", {"status": "deleted", "error": None})
