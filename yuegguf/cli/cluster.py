"""`cluster`: songs on the machines of a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, pass_output
from yuegguf.cli._text import one_line

if TYPE_CHECKING:
    from yuegguf.cluster.status import SongStatus


@click.group(short_help="songs on many machines: their state")
def cluster() -> None:
    """Look after songs that `run --cluster` gives to the machines of a Ray cluster.

    \b
    yuegguf cluster status
    """


@cluster.command(short_help="which machine works on which song")
@click.argument("folder", type=PATH, default=Path("songs"))
@pass_output
def status(output: Console, /, folder: Path) -> int:
    """Show the songs in FOLDER: which machine works on each, how far it is, and what has failed.

    It reads the folder alone, so any machine that sees it may ask.

    \b
    yuegguf cluster status /mnt/songs
    """
    from yuegguf.cluster.status import cluster_status

    found = cluster_status(folder)
    lines = [" · ".join(f"{count} {kind}" for kind, count in found.counts.items())]
    lines += [
        f"{driver.name} on {driver.host}: {driver.machines} machines, {driver.left} songs left,"
        f" {driver.age:.0f} s ago"
        for driver in found.drivers
    ]
    output.result(found.to_json(), [*lines, *map(_line, found.songs)])
    return 0


def _line(song: SongStatus) -> str:
    words = [song.state.ljust(10), song.folder]
    if song.machine:
        share = "" if song.share is None else f"{100 * song.share:.0f}% "
        words.append(f"{share}on {song.machine}{', no sign of life' if song.silent else ''}")
    return one_line("  ".join([*words, *filter(None, (song.note, song.problem))]))
