"""Generation of songs whose folders exist, and the report of it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from yuegguf.cli._console import Console
from yuegguf.cli._signals import stop_on_signals
from yuegguf.errors import quoted
from yuegguf.models.resolve import ModelChoice, Models
from yuegguf.pipeline import run, song_models
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder

EXIT_FAULT = 6
"""Exit code of a finished song of which a section has a fault after all its retries."""
strict_option = click.option(
    "--strict", is_flag=True, help=f"Exit with {EXIT_FAULT} also where a section had no time for its words."
)


def finish(
    output: Console,
    folders: Sequence[SongFolder],
    models: Models,
    compute: ComputeOptions,
    *,
    strict: bool,
) -> int:
    """Generate a new song to its end, or several takes as drafts, and show them; the exit code.

    With `strict`, missing words count as a fault.
    """
    first = folders[0]
    sections = _count(len(first.song.sections), "section")
    names = " + ".join([models.name, *map(str, models.loras)])
    place = first.path if len(folders) == 1 else first.path.parent
    count = "" if len(folders) == 1 else f"{len(folders)} takes of "
    output.say(f"{count}{sections}, seed {first.request.seed}, {names} → {place}")
    if first.early.preview_seconds:
        for folder in folders:
            output.say(f"growing during stage 1: {folder.path / 'preview.wav'}")
    if len(folders) == 1:
        output.display.begin(first, draft_only=bool(first.early.draft))
        with stop_on_signals(output) as stop:
            return show(output, run.run_song(first, models, compute, output.progress, stop), strict=strict)
    return _draft_takes(output, folders, models, compute, strict=strict)


def go_on_together(
    output: Console,
    folders: Sequence[SongFolder],
    choice: ModelChoice,
    compute: ComputeOptions,
    *,
    strict: bool,
) -> int:
    """Go on with takes of one song, and show them; the exit code, with `strict` also of missing words."""
    models = song_models.models_of_song(folders[0], choice)
    return _draft_takes(output, folders, models, compute, strict=strict)


def _draft_takes(
    output: Console,
    folders: Sequence[SongFolder],
    models: Models,
    compute: ComputeOptions,
    *,
    strict: bool,
) -> int:
    from yuegguf.pipeline import takes

    output.display.begin(folders[0], len(folders), draft_only=True)
    with stop_on_signals(output) as stop:
        songs = takes.draft(folders, models, compute, output.progress, stop)
    output.done(songs)
    for song in songs:
        faults = "".join(f"; section {n}: {fault}" for n, fault in song.faults.items())
        for number, lines in song.lost_lines.items():
            faults += f"; section {number}: no time for its last {_count(lines, 'line')}"
        output.say(f"{song.folder.name}: {song.seconds:.2f} s of music{faults}")
    parent = quoted(folders[0].path.parent)
    output.say(f"make whole songs of those you like: yuegguf takes keep {parent} 1 …")
    files = [str(file) for song in songs for file in song.files]
    output.result({"takes": [song.to_json() for song in songs]}, files)
    return EXIT_FAULT if all(_exit_code(song, strict) for song in songs) else 0


def show(output: Console, song: Song, *, strict: bool) -> int:
    """Show a finished song or a draft; the exit code, with `strict` also of missing words."""
    output.done([song])
    output.say(f"{song.seconds:.2f} s of music, seed {song.seed}")
    if song.draft:
        output.say(f"this is the draft; go on with: yuegguf refine {quoted(song.folder)}")
    code = show_problems(output, [song], strict=strict)
    output.result(song.to_json(), [str(path) for path in song.files])
    return code


def show_problems(output: Console, songs: Sequence[Song], *, strict: bool) -> int:
    """Show the faults of songs with the command that mends each, and their missing words; the exit code.

    With `strict`, missing words count as a fault.
    """
    for song in songs:
        of = f"{song.folder.name}, " if len(songs) > 1 else ""
        for number, fault in song.faults.items():
            again = f"yuegguf extend {quoted(song.folder)} --retake {number} --keep-after"
            output.warn(f"{of}section {number}: {fault}; generate it again with: {again}")
        for number, lines in song.lost_lines.items():
            section = song.sections[number - 1]
            output.warn(
                f"{of}section {number} [{section.label}] had no time for its last {_count(lines, 'line')} "
                f"in {section.seconds:g} s; see: yuegguf lyrics check"
            )
    return max((_exit_code(song, strict) for song in songs), default=0)


def _exit_code(song: Song, strict: bool) -> int:
    return EXIT_FAULT if song.faults or (strict and song.lost_lines) else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
