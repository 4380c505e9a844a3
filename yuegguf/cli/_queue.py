"""Many songs, one after the other: `run --queue songs.yaml`.

    defaults: {model: en-cot, segment-seconds: 20}
    songs:
      - {name: first, genre: female pop, lyrics-txt: first.txt, seed: 7}
      - {name: second, genre: male folk, lyrics: "[verse]\\nLa la la"}

A song's keys are `run`'s long options. Beside the file, `songs.yaml.state.json` notes which song became
which folder of its --output-dir, so the same command goes on; `songs.yaml.lock` keeps a second one out.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._generate import go_on_quietly, show_faults
from yuegguf.cli._signals import stop_on_signals
from yuegguf.cli._song_job import job_options
from yuegguf.errors import DamagedFile, Interrupted, RequestError, YueError
from yuegguf.files.atomic import locked_folder, replacing
from yuegguf.files.hashing import sha256_of
from yuegguf.files.typed_json import read_file
from yuegguf.models.lockfile import is_safe_relative_path
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.song_request import Song
from yuegguf.song import voices

HINT = "delete it to begin anew"


@dataclass(frozen=True)
class Entry:
    """A song of the queue."""

    number: int
    """From 1 on."""
    key: str
    """Hash of the options and of the files that they name; other options are another song."""
    job: SongJob

    @property
    def title(self) -> str:
        """Name of the song in messages."""
        return f"song {self.number} ({self.job.name or self.job.song.request.genre.strip()})"


def generate_queue(output: Console, command: click.Command, file: Path, stop_at: str | None) -> int:
    """Generate what is left of a queue. Returns the exit code: 1 where songs failed, which stops no other,
    else EXIT_FAULT where a section is plainly wrong.

    Raises RequestError before the first note where any song cannot be; Interrupted at `stop_at` and on
    Ctrl-C.
    """
    until = clock(stop_at, datetime.datetime.now()) if stop_at else None
    entries = read_queue(output, command, file)
    busy = f"the queue {file} is being worked on by another yuegguf"
    try:
        with (
            locked_folder(file.parent, f"{file.name}.lock", busy),
            stop_on_signals(output) as stop,
            alarm(stop, until),
        ):
            return _generate_all(output, entries, State(file), stop)
    except Interrupted as error:
        when = f"at {stop_at}" if until and datetime.datetime.now() >= until else "on request"
        again = f"yuegguf run --queue {shlex.quote(str(file))}"
        raise Interrupted(f"stopped {when}", f"go on with: {again}") from error


def _generate_all(output: Console, entries: Sequence[Entry], state: State, stop: threading.Event) -> int:
    failed, code, report = 0, 0, []
    for entry in entries:
        try:
            folder, songs = _generate(output, entry, state, stop)
        except Interrupted:
            raise
        except YueError as error:
            output.warn(f"{entry.title} failed: {error}")
            failed += 1
            facts: dict[str, Any] = {"error": {"message": error.message, "hint": error.hint}}
        else:
            code = max([code, *(show_faults(output, song) for song in songs)])
            facts = {"folder": str(folder), "files": _files(songs)}
        report.append({"song": entry.number, "name": entry.job.name, **facts})
    lines = [f"{row['song']:>3}  {row.get('folder') or row['error']['message']}" for row in report]
    output.result({"songs": report}, lines)
    if failed:
        output.warn(f"{failed} of {len(entries)} songs failed; run the same command to try again")
    return 1 if failed else code


def _files(songs: list[Song]) -> list[str]:
    return [str(file) for song in songs for file in song.files]


def _generate(output: Console, entry: Entry, state: State, stop: threading.Event) -> tuple[Path, list[Song]]:
    """Begin or go on with a song, or its takes, unless it is done; its folder and its songs."""
    from yuegguf.pipeline import takes

    folder = state.folder(entry)
    if folder is None:
        # noted first: a queue that is killed in between never begins the song twice
        folders = takes.start(entry.job, lambda path: state.note(entry, path))
        folder = (folders[0].path if len(folders) == 1 else folders[0].path.parent).absolute()
    output.say(f"{entry.title} → {folder}")
    return folder, go_on_quietly(output, folder, entry.job.models, entry.job.compute, stop)


class State:
    """The songs of a queue that were begun, by the names of their folders in their --output-dir."""

    def __init__(self, queue: Path) -> None:
        """Read the notes beside a queue. Raises DamagedFile for notes that name a folder elsewhere."""
        self._path = queue.with_name(f"{queue.name}.state.json")
        try:
            self._names = read_file(self._path, dict[str, str], HINT)
        except FileNotFoundError:
            self._names = {}
        except OSError as error:
            raise DamagedFile(f"{self._path} cannot be read ({error.strerror})", HINT) from error
        for name in self._names.values():
            if not is_safe_relative_path(name) or "/" in name:
                raise DamagedFile(f"{self._path} names the folder {name!r:.80}, which is elsewhere", HINT)

    def folder(self, entry: Entry) -> Path | None:
        """The song's folder, if it was begun and is still there, and is no link."""
        path = (entry.job.parent / self._names.get(entry.key, "")).absolute()
        return path if entry.key in self._names and path.is_dir() and not path.is_symlink() else None

    def note(self, entry: Entry, folder: Path) -> None:
        """Store the folder of a song. Raises StorageError."""
        self._names[entry.key] = folder.name
        with replacing(self._path) as beside:
            beside.write_text(json.dumps(self._names, indent=1) + "\n", encoding="utf-8")


def read_queue(output: Console, command: click.Command, file: Path) -> list[Entry]:
    """Every song of a queue, checked. Raises RequestError that names the song and its line."""
    from yuegguf.cli import _queue_file
    from yuegguf.pipeline import create

    defaults, queued = _queue_file.read(file)
    entries: list[Entry] = []
    for number, one in enumerate(queued, 1):
        place = _queue_file.where(file, number, one.line)
        try:
            asked = _queue_file.chosen(command, defaults, one.options)
            arguments = [text for one in asked.values() for text in one.arguments(file.parent)]
            context = command.make_context(command.name, list(arguments), obj=output)
            with context.scope(cleanup=False):
                job = job_options.take(dict(context.params)).job(output)
            create.new_record(job)  # everything is checked, nothing written
            key = _key(arguments, job)
        except click.UsageError as error:
            raise RequestError(f"{place}: {error.format_message()}") from error
        except YueError as error:
            error.message = f"{place}: {error.message}"
            raise
        same = sum(entry.key.partition("-")[0] == key for entry in entries)
        entries.append(Entry(number, key + (f"-{same}" if same else ""), job))
    return entries


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


def clock(text: str, now: datetime.datetime) -> datetime.datetime:
    """The next time that a clock shows HH:MM. Raises RequestError."""
    try:
        then = datetime.datetime.strptime(text, "%H:%M").time()
    except ValueError as error:
        raise RequestError(f"--stop-at {text} is no time", "write it as 07:30") from error
    found = datetime.datetime.combine(now.date(), then)
    return found if found > now else found + datetime.timedelta(days=1)


@contextmanager
def alarm(stop: threading.Event, until: datetime.datetime | None) -> Iterator[None]:
    """Set an event at a time."""
    if until is None:
        yield
        return
    timer = threading.Timer(max(0.0, (until - datetime.datetime.now()).total_seconds()), stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
