"""What happens to song folders once they are made, and what is said of it."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

from yuegguf.cli._output import Output
from yuegguf.cli._signals import stop_on_signals
from yuegguf.models import ModelChoice, Models
from yuegguf.plan import Machine
from yuegguf.request import Song
from yuegguf.song import SongFolder


def finish(output: Output, folders: Sequence[SongFolder], found: Models, hardware: Machine) -> None:
    """Say what is begun, and sing a new song to its end, or several takes as drafts."""
    first = folders[0]
    request, early = first.request, first.early
    sections = _count(len(request.parsed().sections), "section")
    voice = " + ".join([found.name, *map(str, found.loras)])
    where = first.path if len(folders) == 1 else first.path.parent
    count = "" if len(folders) == 1 else f"{len(folders)} takes of "
    output.say(f"{count}{sections}, seed {request.seed}, {voice} → {where}")
    if early.preview_seconds:
        for folder in folders:
            output.say(f"growing while stage 1 sings: {folder.path / 'preview.wav'}")
    if early.draft:
        output.draft_only()
    if len(folders) == 1:
        from yuegguf import runtime

        with stop_on_signals() as stop:
            show(output, runtime.go_on(first, found, hardware, output.progress, stop))
    else:
        _sing_takes(output, folders, found, hardware)


def go_on_together(
    output: Output, folders: Sequence[SongFolder], choice: ModelChoice, hardware: Machine
) -> None:
    """Go on with takes of one song, and show them."""
    from yuegguf import models

    output.draft_only()
    _sing_takes(output, folders, models.of_song(folders[0], choice), hardware)


def go_on_quietly(
    output: Output, folder: Path, found: Models, hardware: Machine, stop: threading.Event
) -> list[Song]:
    """Go on with a song, or with takes, without showing them; the songs."""
    from yuegguf import runtime, takes

    group = takes.of(folder)
    if group:
        songs = takes.draft(group, found, hardware, output.progress, stop)
    else:
        songs = [runtime.go_on(SongFolder.open(folder), found, hardware, output.progress, stop)]
    output.done()
    return songs


def _sing_takes(output: Output, folders: Sequence[SongFolder], found: Models, hardware: Machine) -> None:
    from yuegguf import takes

    with stop_on_signals() as stop:
        songs = takes.draft(folders, found, hardware, output.progress, stop)
    output.done()
    for song in songs:
        output.say(f"{song.folder.name}: {song.seconds:.2f} s of music")
    parent = shlex.quote(str(folders[0].path.parent))
    output.say(f"make whole songs of those you like: yuegguf takes keep {parent} 1 …")
    files = [str(file) for song in songs for file in song.files]
    output.result({"takes": [song.to_json() for song in songs]}, files)


def show(output: Output, song: Song) -> None:
    """A finished song, or the draft where it rests."""
    output.done()
    output.say(f"{song.seconds:.2f} s of music, seed {song.seed}")
    if song.draft:
        output.say(f"this is the draft; go on with: yuegguf refine {shlex.quote(str(song.folder))}")
    output.result(song.to_json(), [str(path) for path in song.files])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
