"""`extend`: a song goes on, or a part of it is sung again."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._finish import finish
from yuegguf.cli._options import (
    PATH,
    machine,
    machine_options,
    model_choice,
    model_options,
    pass_output,
    read_text,
    takes_option,
)
from yuegguf.cli._output import Output


@click.command(short_help="more sections, or one of them again")
@click.argument("song", type=PATH)
@click.option("-l", "--lyrics-txt", metavar="FILE", help="Whole lyrics, old and new [default: the song's].")
@click.option("--sections", metavar="SPEC", help="How many (2) or which (5-6) to add [default: the next].")
@click.option("--retake", type=click.IntRange(1), metavar="N", help="Sing section N again.")
@click.option(
    "--keep-after/--drop-after",
    default=False,
    help="With --retake: keep what follows, joined hard, or drop it [default: drop].",
)
@click.option(
    "--rewind", type=click.FloatRange(0), default=0.0, metavar="SEC", help="Cut this much off the end first."
)
@click.option("--same-section", is_flag=True, help="Go on inside the last section.")
@click.option("--segment-seconds", type=float, help="Longest a section may be [default: the song's].")
@click.option("--seed", type=int, help="Of what is new [default: random].")
@click.option("-o", "--output-dir", type=PATH, help="Where the new folder goes [default: beside SONG].")
@click.option("--name", help="Folder and title [default: the song's].")
@takes_option
@model_options
@machine_options
@pass_output
def extend(output: Output, /, song: Path, **options: Any) -> None:
    """Make a new song that begins with SONG and goes on; SONG stays as it is.

    \b
    yuegguf extend songs/my-song-1a2b3c
    yuegguf extend songs/my-song-1a2b3c -l longer.txt --sections 2
    yuegguf extend songs/my-song-1a2b3c --rewind 8 --same-section
    yuegguf extend songs/my-song-1a2b3c --retake 2 --keep-after -n 4
    """

    from yuegguf import models
    from yuegguf import takes as library
    from yuegguf.extend import Extension
    from yuegguf.song import SongFolder

    old = SongFolder.open(song)
    choice, hardware = model_choice(options), machine(options)
    seed = secrets.randbelow(2**32) if options["seed"] is None else options["seed"]
    lyrics = read_text(options["lyrics_txt"], "lyrics") if options["lyrics_txt"] else None
    names = ("sections", "retake", "keep_after", "rewind", "same_section", "segment_seconds")
    wanted = Extension(seed, lyrics=lyrics, **{name: options[name] for name in names})
    found = models.of_song(old, choice)
    parent = options["output_dir"] or song.absolute().parent
    folders = library.start_extension(old, wanted, found, parent, options["name"], hardware, options["takes"])
    finish(output, folders, found, hardware)
