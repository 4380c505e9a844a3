"""Deletion of songs with their rows and uploads."""

from __future__ import annotations

import shutil

from yuegguf.files.atomic import storage_errors
from yuegguf.pipeline import takes
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service
from yuegguf.song.folder import SongFolder
from yuegguf.song.library import remove_songs


def delete_song(service: Service, song: str, *, force: bool = False) -> None:
    """Delete a song with all its files, its takes too; with `force` also files of others in its folder.

    Raises YueError where it is in work; nothing is changed then.
    """
    folder, rows = service.shelf.path(song), service.rows_of(song)
    if any(row.state == "processing" for row in rows):
        raise HttpProblem(409, "in_work", "the song is being generated", "cancel it first")
    songs = takes.of(folder) or [SongFolder.open(folder)]
    waiting = [row for row in rows if row.state == "queued"]
    for row in waiting:
        service.store.change(row.song, "canceled")
    try:
        remove_songs(songs, force=force)
    except BaseException:
        for row in waiting:
            service.store.change(row.song, "queued")
        raise
    with storage_errors(folder):
        if folder.is_dir() and not any(folder.iterdir()):  # that of takes
            folder.rmdir()
    service.store.delete([row.song for row in rows])
    uploads = [service.settings.uploads / row.uploads for row in rows if row.uploads]
    for unused in service.shelf.unnamed(uploads):  # a song that goes on from this one names them too
        shutil.rmtree(unused, ignore_errors=True)
    for row in rows:
        service.hub.publish(row.song, "done", {"status": "deleted", "error": None})
