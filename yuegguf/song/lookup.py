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
from yuegguf.song.lease import is_in_work


def new_song_path(parent: Path, name: str) -> Path:
    """Path of a new song folder: `<name>-<id>`."""
    return parent / f"{folder_name(name)}-{secrets.token_hex(3)}"


def folder_name(text: str) -> str:
    """A short folder name from tags or a title: letters, digits and dashes."""
    words = re.findall(r"\w+", text.lower())
    short = "-".join(words)[:48].strip("-_")
    return short or "song"


def newest_interrupted(parent: Path) -> Path | None:
    """The most recently changed song folder, or folder of takes, in `parent` that is not finished.

    A song that is complete as a draft counts as finished, and one that a process, or a machine of a cluster,
    works on is left to it. A folder that cannot be opened is skipped if there is another one to resume.
    Returns None when there is nothing to resume; raises the DamagedFile of a folder that cannot be opened
    then.
    """
    unreadable: YueError | None = None
    for folder in sorted(song_folders(parent), key=_last_change, reverse=True):
        try:
            opened = SongFolder.open(folder)
            if opened.state != "done" and not opened.draft_complete and not is_in_work(folder):
                return folder.parent if folder.parent != parent else folder
        except YueError as error:
            unreadable = unreadable or error
    if unreadable is not None:
        raise unreadable
    return None


def check_parent(parent: Path) -> None:
    """Refuse what is no folder, in which songs could lie. Raises RequestError."""
    if parent.is_dir():
        return
    what = f"{parent} is a file, not a folder" if parent.exists() else f"there is no folder {parent}"
    raise RequestError(what, "pass the folder that holds songs")


def song_folders(parent: Path) -> Iterator[Path]:
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
