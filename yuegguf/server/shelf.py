"""Songs on disk by their ids, and the JSON objects that clients see.

The id of a song is the name of its folder; that of a take, `<folder>:take-<number>`. A path is never made of
what a client sends: an id is looked up among those of the folders that are there.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from yuegguf.errors import YueError
from yuegguf.exchange.zip_bundle import without_paths
from yuegguf.files import typed_json
from yuegguf.files.atomic import storage_errors
from yuegguf.request.valid_text import is_valid_text
from yuegguf.server.jobs import Job
from yuegguf.server.problems import HttpProblem, without_folder
from yuegguf.server.timeline import timeline_of
from yuegguf.song.folder import SongFolder
from yuegguf.song.guard import TAKE_NAME
from yuegguf.song.library import SongSummary, summarise
from yuegguf.song.record import AUDIO_FILES, TEXT_FILES

ROW_STATUSES = {"new": "starting", "queued": "queued", "processing": "processing"}
"""State of a row → status of its song, whatever the folder says."""
PLAYABLE = AUDIO_FILES | {"preview.wav"}
MEDIA_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
}
TAKE_TITLE = re.compile(r", take \d+$")
"""End of the title of a take, behind that of its song."""
Link = Callable[[str], str]
"""Path of a song's file below the server → URL that a player can open without a header."""


def no_such_song() -> HttpProblem:
    """The error of an id that is none."""
    return HttpProblem(404, "no_such_song", "there is no such song", "list them with GET /v1/songs")


class Shelf:
    """The songs of a folder."""

    def __init__(self, songs: Path) -> None:
        self.songs = songs
        self._names: frozenset[str] = frozenset()
        """Names that the folder was seen to have, exactly as it spells them; some may be gone."""

    def ids(self) -> dict[str, Path]:
        """Id → folder of every song, and of every folder of takes; links to folders elsewhere are none."""
        with storage_errors(self.songs), os.scandir(self.songs) as entries:
            there = list(entries)
        self._names = frozenset(entry.name for entry in there)
        return {entry.name: Path(entry.path) for entry in there if self._holds_songs(entry)}

    @staticmethod
    def _is_take(folder: Path) -> bool:
        return not folder.is_symlink() and (folder / "song.json").is_file()

    @staticmethod
    def takes(folder: Path) -> list[Path]:
        """The folders of the takes in a folder, by number."""
        found = [
            path for path in folder.glob("take-*") if TAKE_NAME.fullmatch(path.name) and Shelf._is_take(path)
        ]
        return sorted(found, key=lambda path: int(path.name.removeprefix("take-")))

    def unnamed(self, folders: list[Path]) -> list[Path]:
        """Those of some folders that no song's record names: a lost queue does not know its recordings."""
        left = list(folders)
        for song in self.ids().values() if left else ():
            for record in (song / "song.json", *(take / "song.json" for take in self.takes(song))):
                text = record.read_bytes() if record.is_file() else b""
                left = [folder for folder in left if folder.name.encode() not in text]
        return left

    def path(self, song: str) -> Path:
        """The folder of an id. Raises HttpProblem 404.

        A name is only used once the folder of songs was seen to have it, letter for letter: some systems
        open one folder by many names. The folder is not listed again for a name that it had.
        """
        folder = self._folder(song)
        if folder is None:
            with storage_errors(self.songs):
                self._names = frozenset(os.listdir(self.songs))
            folder = self._folder(song)
        if folder is None:
            raise no_such_song()
        return folder

    def _folder(self, song: str) -> Path | None:
        """The folder of an id among the names that were seen, or None."""
        if song in self._names and self._holds_songs(self.songs / song):
            return self.songs / song
        name, _, take = song.rpartition(":")
        if name in self._names and TAKE_NAME.fullmatch(take) and self._holds_songs(self.songs / name):
            return self.songs / name / take if self._is_take(self.songs / name / take) else None
        return None

    def _holds_songs(self, entry: Path | os.DirEntry[str]) -> bool:
        """Whether an entry of the folder is a song or a folder of takes, and no link to elsewhere."""
        if entry.name.startswith(".") or entry.is_symlink() or not entry.is_dir():
            return False
        is_song = os.path.isfile(os.path.join(entry, "song.json"))
        return is_valid_text(entry.name) and (is_song or bool(self.takes(Path(entry))))

    def open(self, song: str) -> SongFolder:
        """The song of an id. Raises HttpProblem, and YueError for a folder of takes or a damaged one."""
        return SongFolder.open(self.path(song))

    def audio_file(self, song: str, name: str) -> Path:
        """A playable file of a song. Raises HttpProblem 404, DamagedFile where it leads elsewhere."""
        folder = self.open(song).path
        if name not in PLAYABLE or not (folder / name).is_file():
            raise HttpProblem(404, "no_such_file", "there is no such audio file", "see the song's files")
        return folder / name


def song_json(
    song: str,
    folder: Path,
    job: Job | None,
    progress: dict[str, Any] | None,
    link: Link,
    *,
    whole: bool = True,
) -> dict[str, Any]:
    """The JSON object of a song; with `whole`, its request, sections and further downloads too."""
    takes = Shelf.takes(folder) if not (folder / "song.json").is_file() else []
    # the look at a lock takes it for a moment, in which the worker could not claim the folder
    busy = None if job is None or job.state not in ROW_STATUSES else job.state == "processing"
    summaries = [summarise(path, busy=busy) for path in takes or [folder]]
    lead = summaries[0]
    where = f"v1/songs/{quote(song)}"
    body = {
        "id": song,
        "object": "song",
        "title": TAKE_TITLE.sub("", lead.title) if takes else lead.title,
        "status": _status(job, summaries),
        "task": task_name(job),
        "phase": lead.state,
        "draft": all(each.state == "draft done" for each in summaries),
        "created_at": time_text(created_at(job, folder)),
        "started_at": time_text(job.started) if job else None,
        "completed_at": time_text(job.completed) if job else None,
        "seconds": lead.seconds,
        "seed": lead.seed,
        "sections": lead.sections,
        "faults": lead.faults or {},
        "progress": progress,
        "warnings": json.loads(job.warnings) if job else [],
        "error": _error(job, lead),
        "files": [] if takes else _files(where, folder, link),
        "takes": [f"{song}:{path.name}" for path in takes],
        "urls": {"get": where, **{name: f"{where}/{name}" for name in ("events", "cancel", "resume")}},
    }
    body = without_folder(body, folder.parent if song == folder.name else folder.parents[1])  # of a take
    body["resumable"] = body["status"] in ("interrupted", "failed", "canceled") and lead.state != "damaged"
    if not whole:
        return body
    details = {
        "input": _input(takes[0] if takes else folder),
        "timeline": timeline_of(takes[0] if takes else folder),
    }
    return {**body, **details, "downloads": [] if takes else _downloads(where, folder, lead, link)}


def at_end(folder: Path, *, refined: bool) -> bool:
    """Whether nothing is left to do on a song, or on its takes; with `refined`, beyond their drafts too."""
    songs = [folder] if (folder / "song.json").is_file() else Shelf.takes(folder)
    return all(_at_end(song, refined) for song in songs)


def _at_end(song: Path, refined: bool) -> bool:
    state = summarise(song, busy=False).state
    if state == "done":  # text files that were deleted are written again
        return all((song / name).exists() for name in TEXT_FILES)
    return state == "draft done" and not refined


def task_name(job: Job | None) -> str | None:
    """Name of a row's task, such as "render"; None where its song is generated."""
    return str(json.loads(job.task)["type"]) if job is not None and job.task else None


def _status(job: Job | None, summaries: list[SongSummary]) -> str:
    if job is not None and job.state in ROW_STATUSES:
        return ROW_STATUSES[job.state]
    if any(each.state == "damaged" for each in summaries):
        return "failed"
    if all(each.state in ("done", "draft done") for each in summaries):
        return "succeeded"
    if any(each.busy for each in summaries):
        return "processing"
    return job.state if job is not None and job.state in ("failed", "canceled") else "interrupted"


def _error(job: Job | None, summary: SongSummary) -> dict[str, Any] | None:
    if summary.problem:
        return {"message": summary.problem, "code": "damaged_file"}
    found: dict[str, Any] | None = json.loads(job.error) if job and job.error else None
    return found


def _files(where: str, folder: Path, link: Link) -> list[dict[str, Any]]:
    """Playable files; one that goes while they are looked at, as a preview does, is left out."""
    sizes: dict[str, int] = {}
    for name in PLAYABLE:
        with suppress(FileNotFoundError):
            facts = (folder / name).stat()
            if stat.S_ISREG(facts.st_mode):
                sizes[name] = facts.st_size
    names = sorted(sizes, key=lambda name: (not name.startswith("mix"), name))
    return [{"name": name, "bytes": sizes[name], "url": link(f"{where}/audio/{name}")} for name in names]


def _downloads(where: str, folder: Path, summary: SongSummary, link: Link) -> list[dict[str, str]]:
    """Links to a song's texts, project and zip, as far as they exist."""
    paths = [f"text/{name}" for name in TEXT_FILES if (folder / name).is_file()]
    paths += ["project"] if summary.state != "damaged" else []
    paths += ["bundle.zip"] if summary.state == "done" else []
    return [{"name": path.removeprefix("text/"), "url": link(f"{where}/{path}")} for path in paths]


def _input(folder: Path) -> dict[str, Any] | None:
    try:
        facts = without_paths(typed_json.to_builtins(SongFolder.open(folder).request))
    except YueError:
        return None
    return dict(facts)


def project_json(song: SongFolder) -> dict[str, Any]:
    """song.json without this machine's paths."""
    return dict(without_paths(typed_json.to_builtins(song.record)))


def created_at(job: Job | None, folder: Path) -> float:
    """Seconds since 1970 when a song was requested; without a row, when its record changed last.

    Raises FileNotFoundError.
    """
    if job is not None:
        return job.created
    file = folder / "song.json"
    return (file if file.is_file() else folder).stat().st_mtime


def time_text(seconds: float | None) -> str | None:
    """A time in seconds since 1970 as ISO text in UTC."""
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )
