"""Many songs, one after the other: `run --queue songs.yaml`.

    defaults: {model: en-cot, segment-seconds: 20}
    songs:
      - {name: first, genre: female pop, lyrics-txt: first.txt, seed: 7}
      - {name: second, genre: male folk, lyrics: "[verse]\\nLa la la"}

A song's keys are `run`'s long options. Beside the file, `songs.yaml.state.json` notes which song became
which folder, so the same command goes on.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._finish import go_on_quietly, say_faults
from yuegguf.cli._job import Job, job_of
from yuegguf.cli._output import Output
from yuegguf.cli._signals import stop_on_signals
from yuegguf.errors import Interrupted, RequestError, YueError
from yuegguf.files import replacing, storage_errors
from yuegguf.request import Song

FILES = ("genre_txt", "lyrics_txt", "ref", "ref_vocal", "ref_inst")
"""Options whose files are looked for beside the queue's."""


@dataclass(frozen=True)
class Entry:
    """A song of the queue."""

    number: int
    """From 1 on."""
    key: str
    """A hash of what is asked; another wish is another song."""
    job: Job

    @property
    def title(self) -> str:
        """For people."""
        return f"song {self.number} ({self.job.name or self.job.request.genre.strip()})"


def sing_queue(output: Output, command: click.Command, file: Path, stop_at: str | None) -> int:
    """Sing what is left of a queue; returns the exit code: 1 where songs failed, which stops no other, else
    GAVE_UP where a section is plainly wrong.

    Raises RequestError before the first note where any song cannot be; Interrupted at `stop_at` and on
    Ctrl-C.
    """
    until = clock(stop_at, datetime.datetime.now()) if stop_at else None
    entries, state = read_queue(output, command, file), State(file)
    failed, code = 0, 0
    report = []
    with stop_on_signals(output) as stop, alarm(stop, until):
        for entry in entries:
            try:
                songs = _sing(output, entry, state, stop)
            except Interrupted as error:
                when = f"at {stop_at}" if until and datetime.datetime.now() >= until else "on request"
                raise Interrupted(f"stopped {when}", f"go on with: yuegguf run --queue {file}") from error
            except YueError as error:
                output.warn(f"{entry.title} failed: {error}")
                failed += 1
                facts: dict[str, Any] = {"error": {"message": error.message, "hint": error.hint}}
            else:
                code = max(code, *(say_faults(output, song) for song in songs))
                facts = {"folder": str(state.folder(entry.key)), "files": _files(songs)}
            report.append({"song": entry.number, "name": entry.job.name, **facts})
    lines = [f"{row['song']:>3}  {row.get('folder') or row['error']['message']}" for row in report]
    output.result({"songs": report}, lines)
    if failed:
        output.warn(f"{failed} of {len(entries)} songs failed; run the same command to try again")
    return 1 if failed else code


def _files(songs: list[Song]) -> list[str]:
    return [str(file) for song in songs for file in song.files]


def _sing(output: Output, entry: Entry, state: State, stop: threading.Event) -> list[Song]:
    """Begin or go on with a song, or its takes, unless it is done."""
    folder = state.folder(entry.key)
    if folder is None:
        folders = entry.job.begin()
        folder = folders[0].path if len(folders) == 1 else folders[0].path.parent
        state.note(entry.key, folder)
    output.say(f"{entry.title} → {folder}")
    return go_on_quietly(output, folder, entry.job.models, entry.job.hardware, stop)


class State:
    """Which songs of a queue became which folders."""

    def __init__(self, queue: Path) -> None:
        self._path = queue.with_name(f"{queue.name}.state.json")
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            found = {}
        except (OSError, ValueError) as error:
            raise RequestError(f"{self._path} is damaged ({error})", "delete it to begin anew") from error
        self._folders: dict[str, str] = found if isinstance(found, dict) else {}

    def folder(self, key: str) -> Path | None:
        """The song's folder, if it was begun and is still there."""
        path = Path(self._folders[key]) if key in self._folders else None
        return path if path is not None and path.is_dir() else None

    def note(self, key: str, folder: Path) -> None:
        """Remember it. Raises StorageError."""
        self._folders[key] = str(folder.absolute())
        with storage_errors(self._path), replacing(self._path) as beside:
            beside.write_text(json.dumps(self._folders, indent=1) + "\n", encoding="utf-8")


def read_queue(output: Output, command: click.Command, file: Path) -> list[Entry]:
    """Every song of a queue, checked. Raises RequestError that names the song and its line."""
    data, lines = _read(file)
    defaults, songs = data.get("defaults") or {}, data.get("songs")
    if not isinstance(defaults, dict) or not isinstance(songs, list) or not songs:
        raise RequestError(f"{file} holds no list of songs", "write: songs: [{genre: …, lyrics: …}, …]")
    entries: list[Entry] = []
    for number, (line, song) in enumerate(zip(lines, songs, strict=True), 1):
        where = f"{file}, line {line}, song {number}"
        if not isinstance(song, dict):
            raise RequestError(f"{where}: this is not a list of options", "write: genre: …")
        asked = {str(key).replace("_", "-"): value for key, value in {**defaults, **song}.items()}
        try:
            options = command.make_context(command.name, _arguments(command, asked, file.parent)).params
            job = job_of(output, {k: v for k, v in options.items() if k not in OWN})
            job.check()
        except click.UsageError as error:
            raise RequestError(f"{where}: {error.format_message()}") from error
        except YueError as error:
            error.message = f"{where}: {error.message}"
            raise
        same = sum(entry.key.partition("-")[0] == _key(asked) for entry in entries)
        entries.append(Entry(number, _key(asked) + (f"-{same}" if same else ""), job))
    return entries


OWN = ("plan_only", "dry_run", "queue", "stop_at", "pause_on_battery", "nice")
"""Options of `run` that a song of a queue has not."""


def _read(file: Path) -> tuple[Mapping[str, Any], list[int]]:
    """What a queue's file says, and the lines on which its songs begin."""
    import yaml

    try:
        loader = yaml.SafeLoader(file.read_text("utf-8"))
        loader.name = file.name
        tree = loader.get_single_node()
        data = loader.construct_document(tree) if tree else None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"the queue {file} cannot be read ({error})", "check the name") from error
    except yaml.YAMLError as error:
        raise RequestError(
            f"{file} is not YAML ({' '.join(str(error).split())})", "see the README"
        ) from error
    if isinstance(tree, yaml.MappingNode):
        tree = next((value for key, value in tree.value if key.value == "songs"), None)
    lines = [node.start_mark.line + 1 for node in tree.value] if isinstance(tree, yaml.SequenceNode) else []
    return data if isinstance(data, dict) else {"songs": data}, lines


def _arguments(command: click.Command, asked: Mapping[str, Any], folder: Path) -> list[str]:
    """A song's options as the command line has them. Raises UsageError for one that is not there."""
    known = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    arguments = []
    for key, value in asked.items():
        option = known.get(f"--{key}")
        if option is None or option.name in OWN:
            raise click.UsageError(f"there is no option {key!r}")
        if isinstance(option, click.Option) and option.is_flag:
            if value not in (True, False):
                raise click.UsageError(f"{key} is true or false")
            off = [name for name in option.secondary_opts if name.startswith("--")]
            arguments += [f"--{key}"] if value else off[:1]
            continue
        for one in value if isinstance(value, list) else [value]:
            beside = option.name in FILES and one != "-"
            arguments += [f"--{key}", str(folder / str(one)) if beside else str(one)]
    return arguments


def _key(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
