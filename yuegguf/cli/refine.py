"""`refine`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.api import songs as api
from yuegguf.cli._completion import SONG
from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._generate import strict_option
from yuegguf.cli._options import model_options, pass_output
from yuegguf.cli._signals import laptop_options
from yuegguf.cli.run import go_on
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Progress
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice


@click.command(short_help="make a song of a draft")
@click.argument("song", type=SONG)
@strict_option
@model_options
@compute_options
@laptop_options
@pass_output
def refine(output: Console, /, song: Path, strict: bool, choice: ModelChoice, compute: ComputeOptions) -> int:
    """Take SONG, whose draft is done, to its end: stage 2, then mix and stems.

    \b
    yuegguf run --example --draft
    yuegguf refine songs/inspiring-female-pop-1a2b3c
    """

    def work(progress: Progress, stop: threading.Event) -> Song:
        return api.refine(song, choice, compute=compute, progress=progress, stop=stop)

    output.display.begin(SongFolder.open(song))
    return go_on(output, compute, work, strict=strict)
