"""`songs list`, `songs status` and `songs rm`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from yuegguf.cli._completion import SONG
from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, pass_output
from yuegguf.errors import DamagedFile, RequestError, quoted
from yuegguf.files.atomic import storage_errors
from yuegguf.request.ranges import MOST_TAKES
from yuegguf.song.guard import TAKE_NAME
from yuegguf.song.library import SongSummary, list_songs, remove_songs, summarise

DEFAULT = Path("songs")
"""Folder that the first song makes."""


@click.group(short_help="list songs, show their state and what to do next, delete them")
def songs() -> None:
    """Songs on this machine.

    \b
    yuegguf songs list
    yuegguf songs status songs/inspiring-female-pop-1a2b3c
    yuegguf songs rm songs/inspiring-female-pop-1a2b3c
    """


@songs.command("list", short_help="every song of a folder")
@click.argument("folder", type=PATH, default=DEFAULT)
@pass_output
def list_all(output: Console, /, folder: Path) -> None:
    """List the songs and takes in FOLDER [default: songs]: state, length, seed, folder.

    \b
    yuegguf songs list
    yuegguf songs list --json
    """
    found = list_songs(folder) if folder.exists() or folder != DEFAULT else []
    if not found:
        output.say(f"there is no song in {folder}; make one with: yuegguf run --example")
    output.result({"songs": [song.to_json() for song in found]}, [_line(song) for song in found])


@songs.command(short_help="the state of one song, and what to do next")
@click.argument("song", type=SONG)
@pass_output
def status(output: Console, /, song: Path) -> None:
    """Show the state of SONG and the command that goes on with it. Exit code 7 where it is damaged.

    \b
    yuegguf songs status songs/inspiring-female-pop-1a2b3c
    """
    from yuegguf.song.folder import SongFolder

    SongFolder.open(song)  # no song at all is another failure than a damaged one
    summary = summarise(song)
    if summary.problem:
        raise DamagedFile(summary.problem, f"list the others with: yuegguf songs list {quoted(song.parent)}")
    lines = [
        f"title     {summary.title}",
        f"state     {_state(summary)}",
        f"length    {_length(summary)}, {summary.sections} section{'s' * (summary.sections != 1)}",
        f"seed      {summary.seed}",
        *(f"fault     section {number}: {fault}" for number, fault in (summary.faults or {}).items()),
    ]
    if summary.next_command:
        lines.append(f"next      yuegguf {shlex.join(summary.next_command)}")
    output.result(summary.to_json(), lines)


@songs.command("rm", short_help="delete songs")
@click.argument("folders", type=SONG, nargs=-1, required=True, metavar="SONG...")
@click.option(
    "--force", is_flag=True, help="Also damaged songs, and files in their folders that yuegguf did not make."
)
@pass_output
def remove(output: Console, /, folders: tuple[Path, ...], force: bool) -> None:
    """Delete each SONG with all its files, or a folder of takes; none where one of them is in work.

    \b
    yuegguf songs rm songs/inspiring-female-pop-1a2b3c
    """
    from yuegguf.pipeline import takes

    chosen = [song for folder in folders for song in takes.folders(folder) or [folder]]
    if len({song.resolve() for song in chosen}) != len(chosen):
        raise RequestError("a song is named twice", "name each once")
    groups = {*folders, *(song.absolute().parent for song in chosen if _is_take(song))}
    remove_songs(chosen, force=force, damaged=force)
    for folder in groups:
        if folder.is_dir() and not any(folder.iterdir()):  # that of takes
            with storage_errors(folder):
                folder.rmdir()
    removed = [str(song) for song in chosen]
    output.result({"removed": removed}, [f"removed {path}" for path in removed])


def _is_take(folder: Path) -> bool:
    """Whether a folder is named as `run -n` names a take's; that of a song ends in six digits or letters."""
    name = folder.absolute().name
    return TAKE_NAME.fullmatch(name) is not None and int(name.removeprefix("take-")) <= MOST_TAKES


def _line(song: SongSummary) -> str:
    seed = "" if song.seed is None else f"seed {song.seed}"
    return f"{_state(song):<12} {_length(song):<12} {seed:<16} {song.folder}"


def _state(song: SongSummary) -> str:
    return f"{song.state}, in work" if song.busy else song.state


def _length(song: SongSummary) -> str:
    return "not drafted" if song.seconds is None else f"{song.seconds:.1f} s"
