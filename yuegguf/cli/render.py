"""`render` and `bundle`: a finished song in another shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from yuegguf.api import songs as api
from yuegguf.cli._audio_options import audio_changes, check_given_effects
from yuegguf.cli._completion import SONG
from yuegguf.cli._console import Console
from yuegguf.cli._generate import show
from yuegguf.cli._options import (
    PATH,
    codec_option,
    force_option,
    pass_output,
    threads_option,
    was_given,
)
from yuegguf.request.song_request import Output as SongOutput

NAMES = {
    "formats": "formats",
    "bits": "bits",
    "mix": "mix",
    "vocal_gain": "vocal_gain",
    "inst_gain": "inst_gain",
    "rescale": "rescale",
    "loudness": "loudness",
    "fade": "fade",
    "stereo": "stereo",
    "stem_mode": "stem_mode",
    "artist": "artist",
    "year": "year",
    "cover": "cover",
    "no_stems": "stems",
    "no_tags": "tags",
}
"""Option → the field of the song's output that it sets."""


@click.command(short_help="write a song's files anew: another mix, level or format")
@click.argument("song", type=SONG)
@threads_option
@codec_option
@audio_changes
@click.option("--force", is_flag=True, help="Remove its files of other formats, and replace foreign ones.")
@pass_output
def render(
    output: Console,
    /,
    song: Path,
    threads: int | None,
    codec: Path | None,
    audio: SongOutput,
    force: bool,
) -> None:
    """Write the files of SONG anew from its codes, in its folder; what is not named stays as the song has it.

    Needs the codec alone. Files of other formats that it had stay unless --force removes them.

    \b
    yuegguf render songs/my-song-1a2b3c --mix split --vocal-gain 2
    yuegguf render songs/my-song-1a2b3c --format flac,mp3 --bits 24
    """
    from yuegguf.models.resolve import ModelChoice
    from yuegguf.pipeline.preflight import check_output
    from yuegguf.planning.compute_options import ComputeOptions
    from yuegguf.song.folder import SongFolder

    said = {name for name in NAMES if was_given(name)}
    old = SongFolder.open(song).request.output
    new = replace(old, **{NAMES[name]: getattr(audio, NAMES[name]) for name in said})
    if "stem_mode" in said and "no_stems" not in said:
        new = replace(new, stems=True)
    check_given_effects(new)
    if "cover" in said:
        check_output(new)  # an earlier one may be gone, this one not
    choice = ModelChoice(codec=codec) if codec else None
    machine = ComputeOptions(threads=threads)
    made = api.render(song, new, choice, compute=machine, force=force, progress=output.progress)
    if older := SongFolder.open(song).record.older_files:
        output.warn(f"{', '.join(older)} stay from an earlier rendering; --force removes them")
    show(output, made, strict=False)


@click.command(short_help="a finished song as one zip")
@click.argument("song", type=SONG)
@click.option("-o", "--out", type=PATH, metavar="FILE", help="The zip [default: beside SONG].")
@force_option
@pass_output
def bundle(output: Console, /, song: Path, out: Path | None, force: bool) -> None:
    """Put mix, stems, section marks and song.json of SONG into one zip; the same song gives the same bytes.

    Where the tempo is plain, the estimated beats are in it too: tempo.mid, a tempo map for music programs,
    and beats.txt, labels for Audacity.

    \b
    yuegguf bundle songs/my-song-1a2b3c
    yuegguf bundle songs/my-song-1a2b3c -o for-anna.zip
    """
    from yuegguf.api import files

    made = files.bundle(song, out, force=force)
    estimate = made.estimate
    facts = None
    if estimate is not None:
        facts = {
            "bpm": estimate.bpm,
            "bpm_confidence": estimate.tempo_confidence,
            "bar_confidence": estimate.bar_confidence,
            "key": estimate.key,
            "key_confidence": estimate.key_confidence,
        }
        output.say(
            f"estimated: {estimate.bpm:.1f} bpm (confidence {estimate.tempo_confidence:.0%}), "
            f"{estimate.key} ({estimate.key_confidence:.0%})"
        )
    holds = list(made.names)
    output.result({"file": str(made.file), "holds": holds, "estimate": facts}, [str(made.file)])
