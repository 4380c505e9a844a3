"""Check that an output would not replace what a song resumes from."""

from __future__ import annotations

import os
import re
from pathlib import Path

from yuegguf.errors import RequestError
from yuegguf.files.reading import open_plain_file

WORK = re.compile(r"song\.json|tokens\.log|\.lock|.*\.npz|chunks|cache|lease", re.IGNORECASE)
"""Names in a song folder that a song resumes from, in upper or lower case."""
MAX_READ_BYTES = 4 << 20
"""Maximum bytes read of a song.json."""


def check_no_song_work(target: Path) -> None:
    """Raise RequestError for a path that is, or lies in, what a song resumes from, existing or not."""
    place = _resolved(target)
    for path in (place, *place.parents):
        if WORK.fullmatch(path.name) and _is_song(path.parent):
            raise RequestError(
                f"{target} is a place of the song {path.parent.name} itself, which goes on from it",
                "choose another place with -o",
            )


def _resolved(target: Path) -> Path:
    """An absolute path whose folders are no links; the last part may be one, since it is what is replaced."""
    target = target.absolute()
    try:
        return target.parent.resolve() / target.name
    except (OSError, RuntimeError, ValueError):  # links in a circle, or a name that cannot be: no song's
        return target


def _is_song(folder: Path) -> bool:
    """Whether a folder holds a song.json of yuegguf; a project of YuE-UI may have that name too."""
    try:
        with open_plain_file(folder / "song.json") as file:
            return b'"request"' in file.read(MAX_READ_BYTES)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return os.path.isfile(folder / "song.json")  # unlike Path's, never raises
