"""Names of new song folders, and the newest unfinished one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from yuegguf.errors import RequestError, YueError
from yuegguf.song.folder import SongFolder
from yuegguf.song.guard import TAKE_NAME


def new_song_path(parent: Path, name: str) -> Path:
    """Path of a new song folder: `<name>-<id>`."""
    return parent / f"{folder_name(name)}-{secrets.token_hex(3)}"


def folder_name(text: str) -> str:
    """A short folder name from tags or a title: letters, digits and dashes."""
    words = re.findall(r"\w+", text.lower())
    short = "-".join(words)[:48].strip("-_")
    return short or "song"


def newest_interrupted(parent: Path) -> Path:
    """The most recently changed song folder, or folder of takes, in `parent` that is not finished.

    A song that is complete as a draft counts as finished. A folder that cannot be opened is skipped if
    there is another one to resume. Raises its DamagedFile if there is none, RequestError
    when every song is finished.
    """
    unreadable: YueError | None = None
    drafts = False
    for folder in sorted(_song_folders(parent), key=_last_change, reverse=True):
        try:
            opened = SongFolder.open(folder)
            if opened.state != "done" and not opened.draft_complete:
                return folder.parent if folder.parent != parent else folder
            drafts = drafts or opened.draft_complete
        except YueError as error:
            unreadable = unreadable or error
    if unreadable is not None:
        raise unreadable
    hint = "go on with a draft: yuegguf refine SONG" if drafts else "pass the song folder to resume"
    raise RequestError(f"there is no interrupted song in {parent}", hint)


def _song_folders(parent: Path) -> Iterator[Path]:
    """Every song folder in a folder, and every take in a folder of takes there."""
    yield from (file.parent for file in parent.glob("*/song.json"))
    takes = (file.parent for file in parent.glob("*/take-*/song.json"))
    yield from (take for take in takes if TAKE_NAME.fullmatch(take.name))


def _last_change(folder: Path) -> float:
    """Time of the last change in seconds since 1970; song.json alone changes only between phases."""
    times = [0.0]
    for file in (folder / "song.json", folder / "tokens.log", *folder.glob("chunks/*")):
        with suppress(OSError):  # deleted since it was listed
            times.append(file.stat().st_mtime)
    return max(times)
