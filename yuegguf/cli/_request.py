"""Options of `run` and its kin → a request."""

from __future__ import annotations

import secrets
from typing import Any

import click

from yuegguf.cli._options import recordings, song_output, was_given
from yuegguf.cli._texts import read_text, text_or_file
from yuegguf.errors import RequestError
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import GuideTrack, Reference, SongRequest

WORDLESS = "[intro]\n\n[verse]\n\n[chorus]\n\n[outro]\n"
"""Sections of an instrumental whose lyrics nobody wrote."""


def song_request(options: dict[str, Any]) -> SongRequest:
    """A request from `run`'s keywords. Raises RequestError."""
    track = silent_track(options)
    genre, lyrics = _texts(options, WORDLESS if track and track.track == "vocal" else None)
    seconds = options["max_new_tokens"] / 100 if options["max_new_tokens"] else options["segment_seconds"]
    return SongRequest(
        genre,
        lyrics,
        str(options["sections"]),
        seconds,
        seed_of(options),
        sampling_of(options),
        reference=_reference(options),
        track=track,
        take=options["take"],
        retries=options["retries"],
        output=song_output(options),
    )


def seed_of(options: dict[str, Any]) -> int:
    """The seed that was asked for, or a random one."""
    return secrets.randbelow(2**32) if options["seed"] is None else int(options["seed"])


def sampling_of(options: dict[str, Any]) -> Sampling:
    """How stage 1 is to draw. Raises RequestError."""
    first, rest = _guidance(options["cfg"], options["no_cfg"])
    return Sampling(
        first,
        rest,
        options["repetition_penalty"],
        options["temperature"],
        options["top_k"],
        options["top_p"],
    )


def silent_track(options: dict[str, Any]) -> GuideTrack | None:
    """The track that --instrumental or --a-cappella silences."""
    if options["instrumental"] and options["a_cappella"]:
        raise click.UsageError("--instrumental and --a-cappella leave no track; choose one")
    if options["instrumental"]:
        return GuideTrack("vocal")
    return GuideTrack("instrumental") if options["a_cappella"] else None


def _texts(options: dict[str, Any], otherwise: str | None) -> tuple[str, str]:
    """Tags and lyrics from whichever option names them; lyrics may be left out where some are given here.

    Raises RequestError.
    """
    named = [n for n in ("genre", "genre_txt", "lyrics", "lyrics_txt") if options[n] is not None]
    if options["example"] and named:
        raise click.UsageError(f"--example brings its own tags and lyrics; leave out --{named[0]}")
    if [options[n] for n in named].count("-") > 1:
        raise click.UsageError("only one of genre and lyrics can come from stdin")
    if options["example"]:
        from importlib import resources

        example = resources.files("yuegguf") / "data" / "example"
        return (example / "genre.txt").read_text("utf-8"), (example / "lyrics.txt").read_text("utf-8")
    texts = []
    for what, hint in (("genre", '-g "female pop"'), ("lyrics", "-l lyrics.txt")):
        text, file = options[what], options[f"{what}_txt"]
        if what == "lyrics" and otherwise is not None and text is None and file is None:
            texts.append(otherwise)
            continue
        if (text is None) == (file is None):
            raise click.UsageError(f"pass the {what} once: {hint} (or --example)")
        texts.append(read_text(file, what) if file is not None else text_or_file(text, what))
    return texts[0], texts[1]


def _reference(options: dict[str, Any]) -> Reference | None:
    mix, vocal, inst = options["ref"], options["ref_vocal"], options["ref_inst"]
    wanted = options["use_audio_prompt"] or options["use_dual_tracks_prompt"]
    if options["voice"] is not None:
        if mix or vocal or inst or was_given("ref_start", "ref_end"):
            raise click.UsageError("--voice brings its own recording and window; leave out --ref…")
        return Reference(voice=options["voice"])
    if not (mix or vocal or inst):
        if wanted:
            raise RequestError(
                "a reference was asked for but not named", "pass --ref, or --ref-vocal and --ref-inst"
            )
        return None
    if options["use_dual_tracks_prompt"]:  # infer.py prefers the two tracks when both are given
        mix = None
    return recordings(mix, vocal, inst, options["ref_start"], options["ref_end"])


def _guidance(text: str, off: bool) -> tuple[float, float]:
    if off:
        return 1.0, 1.0
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise click.BadParameter(f"{text!r} is not FIRST[,REST], such as 1.5,1.2", param_hint="--cfg")
    return values[0], values[-1]
