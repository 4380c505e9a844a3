"""`extend`: a song goes on, or a part of it is generated again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._generate import finish
from yuegguf.cli._options import (
    PATH,
    compute_options,
    machine_options,
    model_choice,
    model_options,
    pass_output,
    takes_option,
)
from yuegguf.cli._request import seed_of
from yuegguf.cli._signals import laptop_options
from yuegguf.cli._texts import read_text, text_or_file
from yuegguf.cli.import_export import encoded
from yuegguf.models.resolve import Models
from yuegguf.pipeline import song_models
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import Output as SongOutput
from yuegguf.song.folder import SongFolder


@click.command(short_help="more sections, or one of them again")
@click.argument("song", type=PATH, required=False)
@click.option("--vocal", type=PATH, help="Go on from a recording instead of SONG: its vocal …")
@click.option("--inst", type=PATH, help="… and its backing.")
@click.option(
    "--take",
    type=click.FloatRange(1),
    default=20.0,
    show_default=True,
    metavar="SEC",
    help="How much of the recording to keep as the beginning.",
)
@click.option("-g", "--genre", help="Tags of a recording; text, a file or -.")
@click.option("-l", "--lyrics-txt", metavar="FILE", help="Whole lyrics, old and new [default: the song's].")
@click.option("--sections", metavar="SPEC", help="How many (2) or which (5-6) to add [default: the next].")
@click.option("--retake", type=click.IntRange(1), metavar="N", help="Generate section N again.")
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
@click.option(
    "-o", "--output-dir", type=PATH, help="Where the new folder goes [default: beside SONG, or songs]."
)
@click.option("--name", help="Folder and title [default: the song's].")
@takes_option
@model_options
@machine_options
@laptop_options
@pass_output
def extend(output: Console, /, song: Path | None, **options: Any) -> int:
    """Make a new song that begins with SONG and goes on; SONG stays as it is.

    A recording is kept as its codes, which are not refined again; its lyrics begin with the words in it.

    \b
    yuegguf extend songs/my-song-1a2b3c
    yuegguf extend songs/my-song-1a2b3c -l longer.txt --sections 2
    yuegguf extend songs/my-song-1a2b3c --rewind 8 --same-section
    yuegguf extend songs/my-song-1a2b3c --retake 2 --keep-after -n 4
    yuegguf extend --vocal voice.wav --inst band.wav --take 25 -g "folk guitar" -l lyrics.txt
    """
    from yuegguf.models import resolve
    from yuegguf.pipeline import takes as library
    from yuegguf.pipeline.extend import ExtendRequest
    from yuegguf.pipeline.extend import extend as continue_song

    choice, hardware = model_choice(options), compute_options(options)
    lyrics = read_text(options["lyrics_txt"], "lyrics") if options["lyrics_txt"] else None
    if song is None:
        old = _recording(output, options, lyrics, resolve.resolve(choice), hardware)
    elif options["vocal"] or options["inst"] or options["genre"]:
        raise click.UsageError("pass SONG, or a recording with --vocal, --inst and -g")
    else:
        old = SongFolder.open(song)
    names = ("sections", "retake", "keep_after", "rewind", "same_section", "segment_seconds")
    wanted = ExtendRequest(seed_of(options), lyrics=lyrics, **{name: options[name] for name in names})
    found = song_models.models_of_song(old, choice)
    parent = options["output_dir"] or old.path.absolute().parent
    continuation = continue_song(library.drafted_song(old), wanted)
    name, takes = options["name"], options["takes"]
    job = SongJob(prepare(continuation.request), found, parent, name, hardware, takes=takes)
    folders = library.start_extension(old, continuation, job)
    return finish(output, folders, found, hardware)


def _recording(
    output: Console, options: dict[str, Any], lyrics: str | None, found: Models, hardware: ComputeOptions
) -> SongFolder:
    """A song folder of the beginning of two stems. Raises YueError, UsageError."""
    from yuegguf.exchange.imported import Overrides, create_imported_song

    vocal, inst, genre = options["vocal"], options["inst"], options["genre"]
    if vocal is None or inst is None or genre is None or lyrics is None:
        raise click.UsageError("pass SONG, or a recording: --vocal FILE --inst FILE -g TAGS -l LYRICS")
    known = Overrides(text_or_file(genre, "genre"), lyrics, (), SongOutput())
    material = encoded(output, [vocal, inst], (0.0, options["take"]), known, found, hardware)
    for notice in material.notices:
        output.warn(notice)
    parent = options["output_dir"] or Path("songs")
    return create_imported_song(
        material, SongJob(prepare(material.request), found, parent, options["name"], hardware)
    )
