"""`extend`: a song goes on, or a part of it is generated again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._completion import SONG
from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._generate import finish, strict_option
from yuegguf.cli._groups import Group
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import (
    PATH,
    model_options,
    pass_output,
    seed_option,
    starts_option,
    takes_option,
    was_given,
)
from yuegguf.cli._signals import laptop_options
from yuegguf.cli._texts import read_text, text_or_file
from yuegguf.pipeline import extend as extending
from yuegguf.pipeline import song_models
from yuegguf.pipeline.extend import ExtendRequest
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.song.folder import SongFolder

if TYPE_CHECKING:
    from yuegguf.exchange.imported import ImportFacts
    from yuegguf.exchange.importing import StemFiles
    from yuegguf.models.resolve import ModelChoice


@dataclass(frozen=True)
class RecordingOptions:
    """The recording that a song goes on from instead of a song folder."""

    vocal: Path | None
    inst: Path | None
    take: float
    """Seconds to keep."""
    genre: str | None
    starts: tuple[float, ...]
    """Starts of the second and later sections in it, in seconds."""


_recording_options = Group(
    "recording",
    RecordingOptions,
    click.option("--vocal", type=PATH, help="Go on from a recording instead of SONG: its vocal …"),
    click.option("--inst", type=PATH, help="… and its backing."),
    click.option(
        "--take",
        type=Number(1),
        default=20.0,
        show_default=True,
        metavar="SEC",
        help="How much of the recording to keep as the beginning.",
    ),
    click.option("-g", "--genre", help="Tags of a recording; text, a file or -."),
    starts_option,
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
    """Sections to add, or part to generate again, with the lyrics read. Raises RequestError."""
    lyrics = None if lyrics_txt is None else read_text(lyrics_txt, "lyrics")
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
        type=Number(0),
        default=0.0,
        metavar="SEC",
        help="Cut this much off the end first.",
    ),
    click.option("--same-section", is_flag=True, help="Go on inside the last section."),
    click.option("--segment-seconds", type=float, help="Longest a section may be [default: the song's]."),
    seed_option("Of what is new [default: random]."),
)


@click.command(short_help="more sections, or one of them again")
@click.argument("song", type=SONG, required=False)
@_recording_options
@_extend_options
@click.option(
    "-o", "--output-dir", type=PATH, help="Where the new folder goes [default: beside SONG, or songs]."
)
@click.option("--name", help="Folder and title [default: the song's].")
@takes_option
@strict_option
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
    strict: bool,
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
    from yuegguf.pipeline import takes as library

    parent = output_dir or (Path("songs") if song is None else song.absolute().parent)
    with _source(output, song, recording, request, (choice, compute)) as old:
        models = song_models.models_of_song(old, choice)
        job = SongJob(old.song, models, parent, name, compute, takes=takes)
        folders = library.start_extension(old, request, job, output.progress)
    return finish(output, folders, models, compute, strict=strict)


@contextmanager
def _source(
    output: Console,
    song: Path | None,
    recording: RecordingOptions,
    request: ExtendRequest,
    means: tuple[ModelChoice, ComputeOptions],
) -> Iterator[SongFolder]:
    """The song to go on from; that of a recording lies in a folder that is removed at the end.

    Raises YueError, UsageError.
    """
    if song is not None:
        if was_given("vocal", "inst", "genre", "take", "starts"):
            raise click.UsageError("pass SONG, or a recording with --vocal, --inst and -g")
        yield SongFolder.open(song)
        return
    from yuegguf.api import files
    from yuegguf.exchange import importing

    stems, facts = _recording(recording, request.lyrics)
    checked = importing.check_source(stems, facts)  # a wrong request is said before minutes of encoding
    extending.extend(extending.DraftedSong(checked.request, checked.frames, checked.codes), request)
    with tempfile.TemporaryDirectory(prefix="yuegguf-") as place:
        choice, compute = means
        imported = files.import_song(stems, choice, place, facts, compute=compute, progress=output.progress)
        output.done()
        yield SongFolder.open(imported.folder)


def _recording(recording: RecordingOptions, lyrics: str | None) -> tuple[StemFiles, ImportFacts]:
    """Both stems of a recording, its tags and lyrics. Raises UsageError where one is missing."""
    from yuegguf.exchange.imported import ImportFacts
    from yuegguf.exchange.importing import StemFiles

    vocal, inst, genre = recording.vocal, recording.inst, recording.genre
    if vocal is None or inst is None or genre is None or lyrics is None:
        raise click.UsageError("pass SONG, or a recording: --vocal FILE --inst FILE -g TAGS -l LYRICS")
    facts = ImportFacts(text_or_file(genre, "genre"), lyrics, recording.starts)
    return StemFiles(vocal, inst, seconds=recording.take), facts
