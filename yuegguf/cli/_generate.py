"""What happens to song folders once they are made, and what is said of it."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

from yuegguf.cli._console import Console
from yuegguf.cli._signals import stop_on_signals
from yuegguf.models.resolve import ModelChoice, Models
from yuegguf.pipeline import run, song_models
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder

GAVE_UP = 6
"""Exit code of a song that is made, but in which a section is plainly wrong after all its retries."""


def finish(output: Console, folders: Sequence[SongFolder], found: Models, hardware: ComputeOptions) -> int:
    """Say what is begun, and generate a new song to its end, or several takes as drafts; the exit code."""
    first = folders[0]
    request, early = first.request, first.early
    sections = _count(len(first.song.sections), "section")
    voice = " + ".join([found.name, *map(str, found.loras)])
    where = first.path if len(folders) == 1 else first.path.parent
    count = "" if len(folders) == 1 else f"{len(folders)} takes of "
    output.say(f"{count}{sections}, seed {request.seed}, {voice} → {where}")
    if early.preview_seconds:
        for folder in folders:
            output.say(f"growing during stage 1: {folder.path / 'preview.wav'}")
    if early.draft:
        output.draft_only()
    if len(folders) == 1:
        with stop_on_signals(output) as stop:
            return show(output, run.run_song(first, found, hardware, output.progress, stop))
    return _draft_takes(output, folders, found, hardware)


def go_on_together(
    output: Console, folders: Sequence[SongFolder], choice: ModelChoice, hardware: ComputeOptions
) -> int:
    """Go on with takes of one song, and show them; the exit code."""

    output.draft_only()
    return _draft_takes(output, folders, song_models.models_of_song(folders[0], choice), hardware)


def go_on_quietly(
    output: Console, folder: Path, found: Models, hardware: ComputeOptions, stop: threading.Event
) -> list[Song]:
    """Go on with a song, or with takes, without showing them; the songs."""
    from yuegguf.pipeline import takes

    group = takes.of(folder)
    if group:
        songs = takes.draft(group, found, hardware, output.progress, stop)
    else:
        songs = [run.run_song(SongFolder.open(folder), found, hardware, output.progress, stop)]
    output.done()
    return songs


def _draft_takes(
    output: Console, folders: Sequence[SongFolder], found: Models, hardware: ComputeOptions
) -> int:
    from yuegguf.pipeline import takes

    with stop_on_signals(output) as stop:
        songs = takes.draft(folders, found, hardware, output.progress, stop)
    output.done()
    for song in songs:
        faults = "".join(f"; section {n}: {fault}" for n, fault in song.faults.items())
        output.say(f"{song.folder.name}: {song.seconds:.2f} s of music{faults}")
    parent = shlex.quote(str(folders[0].path.parent))
    output.say(f"make whole songs of those you like: yuegguf takes keep {parent} 1 …")
    files = [str(file) for song in songs for file in song.files]
    output.result({"takes": [song.to_json() for song in songs]}, files)
    return GAVE_UP if all(song.faults for song in songs) else 0


def show(output: Console, song: Song) -> int:
    """A finished song, or the draft where it rests; the exit code."""
    output.done()
    output.say(f"{song.seconds:.2f} s of music, seed {song.seed}")
    if song.draft:
        output.say(f"this is the draft; go on with: yuegguf refine {shlex.quote(str(song.folder))}")
    code = say_faults(output, song)
    output.result(song.to_json(), [str(path) for path in song.files])
    return code


def say_faults(output: Console, song: Song) -> int:
    """What is plainly wrong with a song, and how to mend it; the exit code."""
    for number, fault in song.faults.items():
        again = f"yuegguf extend {shlex.quote(str(song.folder))} --retake {number} --keep-after"
        output.warn(f"section {number}: {fault}; generate it again with: {again}")
    return GAVE_UP if song.faults else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
