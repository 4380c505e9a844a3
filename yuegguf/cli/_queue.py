"""Songs of a queue, read and checked: `run --queue songs.yaml`.

    defaults: {model: en-cot, segment-seconds: 20}
    songs:
      - {name: first, genre: female pop, lyrics-txt: first.txt, seed: 7}
      - {name: second, genre: male folk, lyrics: "[verse]\\nLa la la"}

A song's keys are `run`'s long options. Beside the file, `songs.yaml.state.json` notes which song became
which folder of its --output-dir, so the same command goes on; `songs.yaml.lock` keeps a second one out.
A part of a queue has files of its own: `songs.yaml.0-of-8.state.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from yuegguf.cli._console import Console
from yuegguf.cli._queue_part import Part, all_notes, notes_file
from yuegguf.cli._song_job import job_options
from yuegguf.errors import DamagedFile, RequestError, YueError
from yuegguf.files.atomic import replacing
from yuegguf.files.hashing import sha256_of
from yuegguf.files.typed_json import read_file
from yuegguf.models.lockfile import is_safe_relative_path
from yuegguf.pipeline import takes
from yuegguf.pipeline.song_job import SongJob
from yuegguf.song import voices
from yuegguf.song.folder import SongFolder

HINT = "delete it to begin anew"


@dataclass(frozen=True)
class Entry:
    """A song of the queue."""

    number: int
    """From 1 on."""
    key: str
    """Hash of the options as they are written, and of the files that they name; others are another song."""
    older_key: str
    """Hash with the queue's folder before the names of files, as notes of earlier versions have it."""
    job: SongJob

    @property
    def title(self) -> str:
        """Name of the song in messages."""
        return f"song {self.number} ({self.job.name or self.job.song.request.genre.strip()})"


class State:
    """The songs of a queue that were begun, by the names of their folders in their --output-dir."""

    def __init__(self, queue: Path, part: Part | None = None) -> None:
        """Read the notes beside a queue; those of a part are written apart.

        Raises DamagedFile for notes that name a folder elsewhere.
        """
        self._path = notes_file(queue, part)
        self._names = _folder_names(self._path)
        self._names_of_others: dict[str, str] = {}
        for path in all_notes(queue):
            if path != self._path:
                self._names_of_others |= _folder_names(path)

    def folder(self, entry: Entry) -> Path | None:
        """The song's folder, if it was begun, also as one of a part, and is still there, and is no link.

        An empty one counts as not there: its takes were deleted one by one.
        """
        for key in (entry.key, entry.older_key):
            name = self._names.get(key) or self._names_of_others.get(key)
            path = (entry.job.parent / (name or "")).absolute()
            if name and path.is_dir() and not path.is_symlink() and not _is_empty(path):
                return path
        return None

    def keep(self, entry: Entry, folder: Path) -> None:
        """Store the folder of a song that is noted by its older key alone. Raises StorageError."""
        if folder.name not in (self._names.get(entry.key), self._names_of_others.get(entry.key)):
            self.note(entry, folder)

    def note(self, entry: Entry, folder: Path) -> None:
        """Store the folder of a song. Raises StorageError."""
        self._names[entry.key] = folder.name
        with replacing(self._path) as beside:
            beside.write_text(json.dumps(self._names, indent=1) + "\n", encoding="utf-8")


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:  # which opening the song reports
        return False


def _folder_names(path: Path) -> dict[str, str]:
    """Key of a song → name of its folder; none where no notes are. Raises DamagedFile."""
    try:
        names = read_file(path, dict[str, str], HINT)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read ({error.strerror})", HINT) from error
    for name in names.values():
        if not is_safe_relative_path(name) or "/" in name:
            raise DamagedFile(f"{path} names the folder {name!r:.80}, which is elsewhere", HINT)
    return names


def song_folders(folder: Path) -> list[SongFolder]:
    """The takes in a folder, or the song that it is. Raises YueError."""
    return takes.of(folder) or [SongFolder.open(folder)]


def read_queue(output: Console, command: click.Command, file: Path) -> list[Entry]:
    """Every song of a queue, checked. Raises RequestError that names the song and its line."""
    from yuegguf.cli import _queue_file
    from yuegguf.pipeline import create

    defaults, queued = _queue_file.read(file)
    entries: list[Entry] = []
    notices = QueueNotices()
    for number, one in enumerate(queued, 1):
        place, notices.song = _queue_file.where(file, number, one.line), number
        try:
            asked = _queue_file.chosen(command, defaults, one.options)
            arguments, written = (
                [text for one in asked.values() for text in one.arguments(folder)]
                for folder in (file.parent, Path())
            )
            context = command.make_context(command.name, list(arguments), obj=notices)
            with context.scope(cleanup=False):
                job = job_options.take(dict(context.params)).job(notices)
            create.new_record(job)  # everything is checked, nothing written
            key, older_key = _key(written, job), _key(arguments, job)
        except click.UsageError as error:
            raise RequestError(f"{place}: {error.format_message()}") from error
        except YueError as error:
            error.message = f"{place}: {error.message}"
            raise
        key = _numbered(key, [entry.key for entry in entries])
        older_key = _numbered(older_key, [entry.older_key for entry in entries])
        entries.append(Entry(number, key, older_key, job))
    for notice in notices.sentences(len(entries)):
        output.warn(notice)
    return entries


class QueueNotices(Console):
    """Collects the notes of a queue's songs, so that one of several songs comes once."""

    def __init__(self) -> None:
        super().__init__()
        self.song = 0
        """Number of the song that is read."""
        self._songs: dict[str, list[int]] = {}

    def warn(self, text: str, *, again: bool = False) -> None:
        """Note a note of the song."""
        if self.song not in self._songs.setdefault(text, []):
            self._songs[text].append(self.song)

    def sentences(self, count: int) -> list[str]:
        """Each note once, with the numbers of its songs, unless it is of all `count`."""
        return [
            text if len(songs) == count else f"song {', '.join(map(str, songs))}: {text}"
            for text, songs in self._songs.items()
        ]


def _numbered(key: str, before: Sequence[str]) -> str:
    """A song's key with the count of the same songs before it, if there are any."""
    same = sum(other.partition("-")[0] == key for other in before)
    return f"{key}-{same}" if same else key


def _key(arguments: Sequence[str], job: SongJob) -> str:
    """A hash of a song's arguments and of what is in the files that they name. Raises DamagedFile."""
    request = job.song.request
    reference = request.reference
    files = [] if reference is None else [reference.mix, reference.vocal, reference.instrumental]
    if reference is not None and reference.voice is not None:
        files.append(str(voices.voice_path(reference.voice)))
    digests = [sha256_of(Path(file)) for file in files if file is not None]
    facts = [*sorted(arguments), request.genre, request.lyrics, *digests]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
