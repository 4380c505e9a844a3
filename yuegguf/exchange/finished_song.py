"""A finished song or draft with its files by track and its lines by time, to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yuegguf.errors import RequestError, quoted
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder
from yuegguf.song.markers import timed_sections
from yuegguf.song.state import finished, generated_bodies, where


@dataclass(frozen=True)
class TimedSong:
    """A song or draft with the facts that pictures and pages show."""

    song: Song
    genre: str
    tracks: dict[str, Path]
    """A file of each track that there is, by "mix", "vocals" and "instrumental"; the mix first."""
    lines: tuple[tuple[float, str], ...]
    """Lines of the lyrics, and when each begins, in seconds."""


def open_finished(folder: Path) -> TimedSong:
    """The song or draft in `folder`. Raises RequestError where it is not finished, DamagedFile."""
    opened = SongFolder.open(folder)
    if where(opened) != "done":
        raise RequestError(f"{folder} holds no finished song", f"finish it: yuegguf resume {quoted(folder)}")
    song = finished(opened)
    names = {file: file.stem.removeprefix("draft-").replace("draft", "mix") for file in reversed(song.files)}
    by_name = {name: file for file, name in names.items()}
    bodies = generated_bodies(opened, song.sections)
    lines = [line for _, words in timed_sections(song.sections, bodies) for line in words if line[1].strip()]
    order = [name for name in ("mix", "vocals", "instrumental") if name in by_name]
    return TimedSong(song, opened.request.genre, {name: by_name[name] for name in order}, tuple(lines))
