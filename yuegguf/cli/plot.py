"""`plot`."""

from __future__ import annotations

from pathlib import Path

import click

from yuegguf.cli._completion import SONG
from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, pass_output
from yuegguf.files.atomic import refuse_to_replace


@click.command(short_help="a picture of a song: sections, waveform, mel spectrograms")
@click.argument("song", type=SONG)
@click.option("-o", "--output", "target", type=PATH, help="File to write [default: SONG/plot.png].")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@pass_output
def plot(output: Console, /, song: Path, target: Path | None, force: bool) -> None:
    """Draw the song or draft in folder SONG: its sections and lyrics in time, the waveform of the mix and the
    mel spectrograms of both tracks. Needs matplotlib: pip install 'yuegguf[plot]'.

    A target that ends in .json gets the peaks of its files for web players instead, with sections and lines.

    \b
    yuegguf plot songs/my-song
    yuegguf plot songs/my-song -o my-song.svg
    yuegguf plot songs/my-song -o peaks.json
    """
    from yuegguf.exchange.plot import plot_song

    file = target or song / "plot.png"
    refuse_to_replace([file], force)
    made = plot_song(song, file)
    output.result({"file": str(made)}, [str(made)])
