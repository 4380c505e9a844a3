"""`stems`: one track is given, the other is made to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from yuegguf.cli._audio_options import audio_options
from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._generate import finish, strict_option
from yuegguf.cli._groups import Group
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import (
    Destination,
    destination_options,
    lora_model_options,
    pass_output,
    sampling_options,
    song_seed,
    takes_option,
)
from yuegguf.cli._signals import laptop_options
from yuegguf.cli._texts import read_text, text_or_file
from yuegguf.codec.protocol import Track
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import GuideTrack
from yuegguf.request.song_request import Output as SongOutput

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice


def _guide_track(vocal: str | None, inst: str | None, offset: float, re_encode: bool) -> GuideTrack:
    """The recording of the track that is there. Raises UsageError, RequestError."""
    if (vocal is None) == (inst is None):
        raise click.UsageError("pass the track that is there: --vocal FILE or --inst FILE")
    track: Track = "instrumental" if vocal is None else "vocal"
    return GuideTrack(track, inst if vocal is None else vocal, offset, re_encode=re_encode)


_guide_track_options = Group(
    "track",
    _guide_track,
    click.option("--vocal", metavar="FILE", help="The vocal that is there: a backing is made for it."),
    click.option("--inst", metavar="FILE", help="The backing that is there: a vocal is made for it."),
    click.option(
        "--offset",
        type=Number(0),
        default=0.0,
        metavar="SEC",
        help="Begin this far into the recording.",
    ),
    click.option(
        "--re-encode/--keep-original",
        default=False,
        help="Mix in the recording as the codec decodes it, or as it is [default: as it is].",
    ),
)


@click.command(short_help="a backing for a vocal, or a vocal for a backing")
@_guide_track_options
@click.option("-g", "--genre", required=True, help="Tags: genre, instrument, mood, gender, timbre.")
@click.option("-l", "--lyrics-txt", metavar="FILE", help="Lyrics; not needed for a backing.")
@song_seed
@sampling_options
@destination_options
@takes_option
@strict_option
@lora_model_options
@compute_options
@laptop_options
@audio_options
@pass_output
def stems(
    output: Console,
    /,
    track: GuideTrack,
    genre: str,
    lyrics_txt: str | None,
    seed: int,
    sampling: Sampling,
    destination: Destination,
    takes: int,
    strict: bool,
    choice: ModelChoice,
    compute: ComputeOptions,
    audio: SongOutput,
) -> int:
    """Make the missing track to a recording of the other one; it sets the song's length.

    Sections share it evenly; a #length line above a section in the lyrics gives that one its seconds.

    \b
    yuegguf stems --vocal voice.wav -g "folk guitar warm female vocal" -l lyrics.txt
    yuegguf stems --inst backing.flac -g "pop airy female vocal" -l lyrics.txt -n 4
    """
    from yuegguf.pipeline import create
    from yuegguf.pipeline import takes as library
    from yuegguf.pipeline.song_job import SongJob
    from yuegguf.song.recordings import stems_request

    if lyrics_txt is None and track.track == "instrumental":
        raise click.UsageError("a vocal needs words: pass -l lyrics.txt")
    lyrics = read_text(lyrics_txt, "lyrics") if lyrics_txt else None
    tags = text_or_file(genre, "genre")
    request = stems_request(track, tags, lyrics, seed=seed, sampling=sampling, output=audio)
    song, models = create.prepare_song(request, choice, output.progress)
    job = SongJob(song, models, destination.output_dir, destination.name, compute, takes=takes)
    return finish(output, library.start(job), models, compute, strict=strict)
