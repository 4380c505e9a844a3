"""Options of the audio files that a command writes, and the value that they become."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import cast

import click

from yuegguf.cli._groups import Group
from yuegguf.cli._options import PATH, was_given
from yuegguf.request.output_effects import CHECKED, check_effects
from yuegguf.request.song_request import (
    FORMATS,
    MIX_MODES,
    STEM_MODES,
    Format,
    MixMode,
    Output,
    StemMode,
)


def _audio(
    *,
    formats: str,
    bits: int,
    mix: MixMode,
    vocal_gain: float,
    inst_gain: float,
    rescale: bool,
    loudness: float | None,
    fade: float,
    stereo: bool,
    stem_mode: StemMode,
    no_stems: bool,
    no_tags: bool,
    artist: str,
    year: int | None,
    cover: Path | None,
) -> Output:
    """Formats and mix of the audio files, not checked against each other. Raises RequestError."""
    names = tuple(part.strip().lower() for part in formats.split(",") if part.strip())
    return Output(
        cast(tuple[Format, ...], names),
        bits,
        mix,
        vocal_gain,
        inst_gain,
        rescale,
        stems=not no_stems,
        tags=not no_tags,
        stem_mode=stem_mode,
        loudness=loudness,
        fade=fade,
        stereo=stereo,
        artist=artist,
        year=date.today().year if year is None else year,
        cover=None if cover is None or str(cover) == "off" else str(cover.absolute()),
    )


def _checked(*, audio: Output) -> Output:
    check_given_effects(audio)
    return audio


def check_given_effects(output: Output) -> None:
    """Refuse options of the command line that do nothing beside the others. Raises RequestError."""
    check_effects(output, [name for name in CHECKED if was_given(name)])


def lufs(value: str) -> float | None:
    """A loudness in LUFS; None for "off"."""
    if value.lower() == "off":
        return None
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{value[:40]!r} is not a loudness such as -14, or off") from None


audio_changes = Group(
    "audio",
    _audio,
    click.option(
        "--format",
        "formats",
        default="wav",
        show_default=True,
        help=f"{', '.join(FORMATS)} (comma list); opus and m4a need ffmpeg.",
    ),
    click.option("--bits", type=int, default=16, show_default=True, help="16 or 24 (wav, flac)."),
    click.option(
        "--mix",
        type=click.Choice(MIX_MODES),
        default="hybrid",
        show_default=True,
        help="hybrid: codec below 5.5 kHz, Vocos above, joined flat. upstream: the official crossover. "
        "vocos, codec: one of them. split: codec backing, Vocos vocal.",
    ),
    click.option(
        "--vocal-gain",
        type=float,
        default=0.0,
        show_default=True,
        metavar="DB",
        help="Gain of the vocal in the mix.",
    ),
    click.option(
        "--inst-gain",
        type=float,
        default=0.0,
        show_default=True,
        metavar="DB",
        help="Gain of the backing in the mix.",
    ),
    click.option("-r", "--rescale", is_flag=True, help="Scale to peak 0.99 instead of limiting."),
    click.option(
        "--loudness",
        type=lufs,
        default="-14",
        show_default=True,
        metavar="LUFS",
        help="Integrated loudness of the mix under a true peak of -1 dB; off: as it is.",
    ),
    click.option(
        "--fade",
        type=float,
        default=10.0,
        show_default=True,
        metavar="MS",
        help="Fade at both ends; none with --mix upstream.",
    ),
    click.option("--stereo", is_flag=True, help="Widen the instrumental; in mono it sounds as before."),
    click.option(
        "--stems",
        "stem_mode",
        type=click.Choice(STEM_MODES),
        default="joined",
        show_default=True,
        help="joined: vocals + instrumental = mix. raw: each as its upsampler gives it.",
    ),
    click.option("--no-stems", is_flag=True, help="Only the mix."),
    click.option("--artist", default="YuE", show_default=True, help="Artist in the files' tags."),
    click.option("--year", type=int, help="Year in the files' tags [default: this year]."),
    click.option(
        "--cover",
        type=PATH,
        metavar="FILE",
        help="PNG or JPEG picture for the tags of mp3, flac, opus and m4a, "
        "such as that of: yuegguf plot; off: none.",
    ),
    click.option("--no-tags", is_flag=True, help='Do not write "AI-generated with YuE" into the files.'),
)
"""Options that replace those of an earlier output."""
audio_options = Group("audio", _checked, audio_changes)
"""Options of a new output, checked against each other."""
