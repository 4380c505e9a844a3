"""`stems`: one track is given, the other is made to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._generate import finish
from yuegguf.cli._options import (
    compute_options,
    folder_options,
    lora_option,
    machine_options,
    model_choice,
    model_options,
    output_options,
    pass_output,
    sampling_options,
    song_output,
    takes_option,
)
from yuegguf.cli._request import sampling_of, seed_of
from yuegguf.cli._signals import laptop_options
from yuegguf.cli._texts import read_text, text_or_file
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.request.song_request import GuideTrack, SongRequest

LONGEST = 30.0
"""Seconds of a section of a recording whose lyrics nobody wrote."""


@click.command(short_help="a backing for a vocal, or a vocal for a backing")
@click.option("--vocal", metavar="FILE", help="The vocal that is there: a backing is made for it.")
@click.option("--inst", metavar="FILE", help="The backing that is there: a vocal is made for it.")
@click.option(
    "--offset",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SEC",
    help="Begin this far into the recording.",
)
@click.option(
    "--re-encode/--keep-original",
    default=False,
    help="Mix in the recording as the codec decodes it, or as it is [default: as it is].",
)
@click.option("-g", "--genre", required=True, help="Tags: genre, instrument, mood, gender, timbre.")
@click.option("-l", "--lyrics-txt", metavar="FILE", help="Lyrics; not needed for a backing.")
@sampling_options
@folder_options
@takes_option
@model_options
@lora_option
@machine_options
@laptop_options
@output_options
@pass_output
def stems(output: Console, /, **options: Any) -> int:
    """Make the missing track to a recording of the other one; it sets the song's length.

    Sections share it evenly; a #length line above a section in the lyrics gives that one its seconds.

    \b
    yuegguf stems --vocal voice.wav -g "folk guitar warm female vocal" -l lyrics.txt
    yuegguf stems --inst backing.flac -g "pop airy female vocal" -l lyrics.txt -n 4
    """
    from yuegguf.models import resolve
    from yuegguf.pipeline import takes as library
    from yuegguf.pipeline.song_job import SongJob
    from yuegguf.request.prepared import prepare
    from yuegguf.song import recordings

    track = _recording(options)
    frames = recordings.recorded_frames(track)
    lyrics = options["lyrics_txt"]
    if lyrics is None and track.track == "instrumental":
        raise click.UsageError("a vocal needs words: pass -l lyrics.txt")
    wordless = recordings.wordless_lyrics(frames / FRAME_RATE, LONGEST)
    request = SongRequest(
        text_or_file(options["genre"], "genre"),
        read_text(lyrics, "lyrics") if lyrics else wordless,
        seed=seed_of(options),
        sampling=sampling_of(options),
        track=replace(track, frames=frames),
        output=song_output(options),
    )
    choice, hardware = model_choice(options), compute_options(options)
    found = resolve.resolve(choice, False)
    song, parent, name = prepare(request), options["output_dir"], options["name"]
    folders = library.start(SongJob(song, found, parent, name, hardware, takes=options["takes"]))
    return finish(output, folders, found, hardware)


def _recording(options: dict[str, Any]) -> GuideTrack:
    """The track that is there. Raises UsageError, RequestError."""
    vocal, inst = options["vocal"], options["inst"]
    if (vocal is None) == (inst is None):
        raise click.UsageError("pass the track that is there: --vocal FILE or --inst FILE")
    return GuideTrack(
        "instrumental" if vocal is None else "vocal",
        inst if vocal is None else vocal,
        options["offset"],
        re_encode=options["re_encode"],
    )
