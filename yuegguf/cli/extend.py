"""`extend`: a song goes on, or a part of it is generated again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._generate import finish
from yuegguf.cli._groups import Group
from yuegguf.cli._options import PATH, model_options, pass_output, seed_option, takes_option
from yuegguf.cli._signals import laptop_options
from yuegguf.cli._texts import read_text, text_or_file
from yuegguf.cli.import_export import encoded
from yuegguf.pipeline import song_models
from yuegguf.pipeline.extend import ExtendRequest
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import Output as SongOutput
from yuegguf.song.folder import SongFolder

if TYPE_CHECKING:
    from yuegguf.exchange.imported import ImportedSong
    from yuegguf.models.resolve import ModelChoice, Models


@dataclass(frozen=True)
class RecordingOptions:
    """The recording that a song goes on from instead of a song folder."""

    vocal: Path | None
    inst: Path | None
    take: float
    """Seconds to keep."""
    genre: str | None


_recording_options = Group(
    "recording",
    RecordingOptions,
    click.option("--vocal", type=PATH, help="Go on from a recording instead of SONG: its vocal …"),
    click.option("--inst", type=PATH, help="… and its backing."),
    click.option(
        "--take",
        type=click.FloatRange(1),
        default=20.0,
        show_default=True,
        metavar="SEC",
        help="How much of the recording to keep as the beginning.",
    ),
    click.option("-g", "--genre", help="Tags of a recording; text, a file or -."),
)


def _extend_request(
    *,
    seed: int,
    sections: str | None,
    lyrics_txt: str | None,
    retake: int | None,
    keep_after: bool,
    rewind: float,
    same_section: bool,
    segment_seconds: float | None,
) -> ExtendRequest:
    """What is to be added or generated again, the lyrics read. Raises RequestError."""
    lyrics = read_text(lyrics_txt, "lyrics") if lyrics_txt else None
    return ExtendRequest(seed, sections, lyrics, retake, keep_after, rewind, same_section, segment_seconds)


_extend_options = Group(
    "request",
    _extend_request,
    click.option(
        "-l", "--lyrics-txt", metavar="FILE", help="Whole lyrics, old and new [default: the song's]."
    ),
    click.option(
        "--sections", metavar="SPEC", help="How many (2) or which (5-6) to add [default: the next]."
    ),
    click.option("--retake", type=click.IntRange(1), metavar="N", help="Generate section N again."),
    click.option(
        "--keep-after/--drop-after",
        default=False,
        help="With --retake: keep what follows, joined hard, or drop it [default: drop].",
    ),
    click.option(
        "--rewind",
        type=click.FloatRange(0),
        default=0.0,
        metavar="SEC",
        help="Cut this much off the end first.",
    ),
    click.option("--same-section", is_flag=True, help="Go on inside the last section."),
    click.option("--segment-seconds", type=float, help="Longest a section may be [default: the song's]."),
    seed_option("Of what is new [default: random]."),
)


@click.command(short_help="more sections, or one of them again")
@click.argument("song", type=PATH, required=False)
@_recording_options
@_extend_options
@click.option(
    "-o", "--output-dir", type=PATH, help="Where the new folder goes [default: beside SONG, or songs]."
)
@click.option("--name", help="Folder and title [default: the song's].")
@takes_option
@model_options
@compute_options
@laptop_options
@pass_output
def extend(
    output: Console,
    /,
    song: Path | None,
    recording: RecordingOptions,
    request: ExtendRequest,
    output_dir: Path | None,
    name: str | None,
    takes: int,
    choice: ModelChoice,
    compute: ComputeOptions,
) -> int:
    """Make a new song that begins with SONG and goes on; SONG stays as it is.

    A recording is kept as its codes, which are not refined again; its lyrics begin with the words in it.

    \b
    yuegguf extend songs/my-song-1a2b3c
    yuegguf extend songs/my-song-1a2b3c -l longer.txt --sections 2
    yuegguf extend songs/my-song-1a2b3c --rewind 8 --same-section
    yuegguf extend songs/my-song-1a2b3c --retake 2 --keep-after -n 4
    yuegguf extend --vocal voice.wav --inst band.wav --take 25 -g "folk guitar" -l lyrics.txt
    """
    from yuegguf.exchange.imported import create_imported_song
    from yuegguf.models import resolve
    from yuegguf.pipeline import takes as library
    from yuegguf.pipeline.extend import extend as continue_song

    if song is None:
        models, parent = resolve.resolve(choice), output_dir or Path("songs")
        imported = _encoded(output, recording, request.lyrics, models, compute)
        old = create_imported_song(
            imported, SongJob(prepare(imported.request), models, parent, name, compute)
        )
    elif recording.vocal or recording.inst or recording.genre:
        raise click.UsageError("pass SONG, or a recording with --vocal, --inst and -g")
    else:
        old = SongFolder.open(song)
    models = song_models.models_of_song(old, choice)
    parent = output_dir or old.path.absolute().parent
    continuation = continue_song(library.drafted_song(old), request)
    job = SongJob(prepare(continuation.request), models, parent, name, compute, takes=takes)
    return finish(output, library.start_extension(old, continuation, job), models, compute)


def _encoded(
    output: Console,
    recording: RecordingOptions,
    lyrics: str | None,
    models: Models,
    compute: ComputeOptions,
) -> ImportedSong:
    """The beginning of two stems as codes. Raises YueError, UsageError."""
    from yuegguf.exchange.imported import Overrides

    vocal, inst, genre = recording.vocal, recording.inst, recording.genre
    if vocal is None or inst is None or genre is None or lyrics is None:
        raise click.UsageError("pass SONG, or a recording: --vocal FILE --inst FILE -g TAGS -l LYRICS")
    known = Overrides(text_or_file(genre, "genre"), lyrics, (), SongOutput())
    imported = encoded(output, [vocal, inst], (0.0, recording.take), known, models, compute)
    for notice in imported.notices:
        output.warn(notice)
    return imported
