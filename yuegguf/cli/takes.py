"""`takes`: several drafts of one song, of which some are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._generate import show_problems, strict_option
from yuegguf.cli._options import PATH, model_options, pass_output
from yuegguf.cli._signals import laptop_options, stop_on_signals
from yuegguf.cli._way_back import same_command_goes_on
from yuegguf.planning.compute_options import ComputeOptions

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice


@click.group(short_help="several drafts of one song: list them, keep some")
def takes() -> None:
    """Takes of one song, which `run -n` and `extend -n` draft side by side.

    \b
    yuegguf run --example -n 4
    yuegguf takes list songs/inspiring-female-pop-1a2b3c
    yuegguf takes keep songs/inspiring-female-pop-1a2b3c 2
    """


@takes.command("list", short_help="what takes there are")
@click.argument("folder", type=PATH)
@pass_output
def list_takes(output: Console, /, folder: Path) -> None:
    """List the takes in FOLDER: how far each is, how long, and its seed line.

    \b
    yuegguf takes list songs/inspiring-female-pop-1a2b3c
    """
    from yuegguf.api import songs
    from yuegguf.song.folder import SongFolder

    rows, lines = [], []
    for take in songs.list_takes(folder):
        name, seed = take.folder.name, take.request.seed
        rows.append({"take": name, "state": take.state, "seconds": take.seconds, "seed": seed})
        length = "not drafted yet" if take.seconds is None else f"{take.seconds:.2f} s"
        is_extension = SongFolder.open(take.folder).record.origin is not None
        number = "" if is_extension else f" --take {take.request.take}"  # of `extend`, --take is seconds
        lines.append(f"{name:<9} {take.state:<7} {length:<16} --seed {seed}{number}")
    output.result({"takes": rows}, lines)


@takes.command("keep", short_help="finish some takes, and say what becomes of the others")
@click.argument("folder", type=PATH)
@click.argument("numbers", type=click.IntRange(1), nargs=-1, required=True)
@click.option("--delete-others", is_flag=True, help="Delete the drafts that are not kept, now or earlier.")
@strict_option
@model_options
@compute_options
@laptop_options
@pass_output
def keep(
    output: Console,
    /,
    folder: Path,
    numbers: tuple[int, ...],
    delete_others: bool,
    strict: bool,
    choice: ModelChoice,
    compute: ComputeOptions,
) -> int:
    """Make whole songs of the takes of these NUMBERS; the others stay drafts unless they are deleted.

    A take that was kept earlier is never deleted here; for that there is: yuegguf songs rm.

    \b
    yuegguf takes keep songs/inspiring-female-pop-1a2b3c 2
    yuegguf takes keep songs/inspiring-female-pop-1a2b3c 1 3 --delete-others
    """
    from yuegguf.api.songs import keep_takes, list_takes

    before = list_takes(folder) if delete_others else ()
    with same_command_goes_on(), stop_on_signals(output) as stop:
        songs = keep_takes(
            folder,
            numbers,
            choice,
            delete_others=delete_others,
            compute=compute,
            progress=output.progress,
            stop=stop,
        )
    output.done()
    code = show_problems(output, songs, strict=strict)
    files = [str(file) for song in songs for file in song.files]
    removed = [str(take.folder) for take in before if not take.folder.exists()]
    for path in removed:
        output.say(f"removed {path}")
    for take in before:
        if take.number not in numbers and take.folder.exists():
            output.say(f"{take.folder.name} was kept earlier and stays")
    output.result({"songs": [song.to_json() for song in songs], "removed": removed}, files)
    return code
