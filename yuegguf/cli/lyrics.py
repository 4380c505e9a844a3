"""`lyrics check` and `lyrics format`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import pass_output, was_given
from yuegguf.cli._texts import read_text
from yuegguf.errors import RequestError, argument
from yuegguf.request.lyrics import Lyrics, parse_lyrics
from yuegguf.request.lyrics import format_lyrics as lyrics_text
from yuegguf.request.ranges import MAX_SECTION_SECONDS, MIN_SECTION_SECONDS

if TYPE_CHECKING:
    from yuegguf.request.fit import SectionFit


@click.group(short_help="look at lyrics before a song is generated")
def lyrics() -> None:
    """Check whether lyrics fit their sections, or write them as the model will read them."""


def _limit_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--segment-seconds",
        type=Number(MIN_SECTION_SECONDS, MAX_SECTION_SECONDS),
        default=30.0,
        show_default=True,
        help="Longest that a section may be.",
    )(command)


def _genre_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("-g", "--genre", default="", help="The song's tags; rap may be faster.")(command)


def _keep_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--keep-repeats", is_flag=True, help="Leave marks such as (x2) as they are instead of repeating."
    )(command)


@lyrics.command(short_help="sections, languages, and whether the words fit")
@click.argument("text", metavar="FILE|-")
@_limit_option
@_genre_option
@_keep_option
@click.option("--strict", is_flag=True, help="Exit with 5 when a section is too long.")
@pass_output
def check(
    output: Console, /, text: str, segment_seconds: float, genre: str, keep_repeats: bool, strict: bool
) -> None:
    """Show what of FILE is generated in what order, count its syllables, and say what to change.

    \b
    yuegguf lyrics check lyrics.txt
    yuegguf lyrics check lyrics.txt --segment-seconds 20 --strict
    """
    from yuegguf.request.fit import merged_sections, section_fit
    from yuegguf.request.scripts import model_advice

    parsed = _parsed(output, text, keep_repeats)
    fits = [section_fit(section, segment_seconds, genre) for section in parsed.sections]
    noun = "section" if len(fits) == 1 else "sections"
    lines = [f"{len(fits)} {noun}, at most {sum(fit.seconds for fit in fits):g} s of music"]
    for number, (fit, section) in enumerate(zip(fits, parsed.sections, strict=True), 1):
        lines.append(f"{number:>3} {_summary(fit)}")
        lines += [f"      {line}" for line in section.body.splitlines() if line.strip()]
    advice = [model_advice(script for fit in fits for script in fit.scripts)]
    fewer = len(merged_sections(parsed.sections, segment_seconds, genre))
    if fewer < len(fits):
        command = _merge_command(text, segment_seconds, genre, keep_repeats)
        noun = "section" if fewer == 1 else "sections"
        advice.append(f"neighbours of one label fit into {fewer} {noun}: {command}")
    lines += [sentence for sentence in advice if sentence]
    report = [
        {
            **asdict(fit),
            "pace": round(fit.pace, 2),
            "verdict": fit.verdict,
            "advice": fit.advice,
            "text": s.body,
        }
        for fit, s in zip(fits, parsed.sections, strict=True)
    ]
    facts = {"sections": report, "advice": [sentence for sentence in advice if sentence]}
    output.result({**facts, "notices": list(parsed.notices), "changes": _changes(parsed)}, lines)
    late = [fit for fit in fits if fit.verdict == "too long"]
    if strict and late:
        raise RequestError(f"[{late[0].label}] will be cut off", late[0].advice)


def _merge_command(text: str, segment_seconds: float, genre: str, keep_repeats: bool) -> str:
    """The command that merges sections as they were counted."""
    options = ["--segment-seconds", f"{segment_seconds:g}"] if was_given("segment_seconds") else []
    options += ["--genre", genre] if genre else []
    options += ["--keep-repeats"] if keep_repeats else []
    source = argument(text) if os.path.isfile(text) else "FILE"
    return shlex.join(["yuegguf", "lyrics", "format", source, "--merge", *options])


def _summary(fit: SectionFit) -> str:
    """The label of a section, and whether its words fit."""
    if fit.verdict == "instrumental":
        return f"[{fit.label}] instrumental"
    noun = "syllable" if fit.syllables == 1 else "syllables"
    counts = f"{fit.syllables} {noun} in {fit.seconds:g} s, {fit.pace:.1f} a second, {fit.script_names}"
    return f"[{fit.label}] {fit.verdict}: {counts}" + (f"; {fit.advice}" if fit.advice else "")


@lyrics.command("format", short_help="the lyrics as the model will read them")
@click.argument("text", metavar="FILE|-")
@click.option("--merge", is_flag=True, help="Join neighbours of one label whose words fit into one section.")
@_limit_option
@_genre_option
@_keep_option
@pass_output
def write(
    output: Console, /, text: str, merge: bool, segment_seconds: float, genre: str, keep_repeats: bool
) -> None:
    """Write FILE as the model reads it, with one plain label above each section; notices say what changed.

    \b
    yuegguf lyrics format pasted.txt > lyrics.txt
    yuegguf lyrics format pasted.txt --merge > lyrics.txt
    """
    from yuegguf.request.fit import merged_sections

    parsed = _parsed(output, text, keep_repeats)
    sections = merged_sections(parsed.sections, segment_seconds, genre) if merge else list(parsed.sections)
    if len(sections) < len(parsed.sections):
        output.warn(f"{len(parsed.sections)} sections are merged into {len(sections)}")
    written = lyrics_text(sections)
    facts = {"lyrics": written, "notices": list(parsed.notices), "changes": _changes(parsed)}
    output.result(facts, [written.rstrip("\n")])


def _parsed(output: Console, text: str, keep_repeats: bool) -> Lyrics:
    """The lyrics of a file or of stdin; warns of what was changed."""
    parsed = parse_lyrics(read_text(text, "lyrics"), keep_repeats)
    for notice in parsed.notices:
        output.warn(notice)
    return parsed


def _changes(parsed: Lyrics) -> list[dict[str, str]]:
    """Every change with its kind and its whole text."""
    return [{"kind": change.kind.name.lower(), "text": change.text} for change in parsed.changes]
