"""`refine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yuegguf import api
from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, machine_options, model_options, pass_output
from yuegguf.cli._signals import laptop_options
from yuegguf.cli.run import go_on


@click.command(short_help="make a song of a draft")
@click.argument("song", type=PATH)
@model_options
@machine_options
@laptop_options
@pass_output
def refine(output: Console, /, song: Path, **options: Any) -> int:
    """Take SONG, whose draft is done, to its end: stage 2, then mix and stems.

    \b
    yuegguf run --example --draft
    yuegguf refine songs/inspiring-female-pop-1a2b3c
    """

    return go_on(output, api.refine, song, options)
