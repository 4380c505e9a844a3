"""`lyrics check` and `lyrics format`."""

from __future__ import annotations

from dataclasses import asdict

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import pass_output
from yuegguf.cli._texts import text_or_file
from yuegguf.errors import RequestError
from yuegguf.request.lyrics import format_lyrics as lyrics_text
from yuegguf.request.lyrics import parse_lyrics


@click.group(short_help="look at lyrics before a song is generated")
def lyrics() -> None:
    """Check whether lyrics fit their sections, or write them as the model will read them."""


@lyrics.command(short_help="sections, languages, and whether the words fit")
@click.argument("text", metavar="FILE|-")
@click.option(
    "--segment-seconds",
    type=click.FloatRange(1, 150),
    default=30.0,
    show_default=True,
    help="Longest that a section may be.",
)
@click.option("-g", "--genre", default="", help="The song's tags; rap may be faster.")
@click.option("--strict", is_flag=True, help="Exit with 5 when a section is too long.")
@pass_output
def check(output: Console, /, text: str, segment_seconds: float, genre: str, strict: bool) -> None:
    """Count the syllables of each section of FILE and say what to change.

    \b
    yuegguf lyrics check lyrics.txt
    yuegguf lyrics check lyrics.txt --segment-seconds 20 --strict
    """
    from yuegguf.request.syllables import LANGUAGE_NAMES, section_fit

    parsed = parse_lyrics(text_or_file(text, "lyrics"))
    for notice in parsed.notices:
        output.warn(notice)
    found = [section_fit(section, segment_seconds, genre) for section in parsed.sections]
    lines = [f"{len(found)} sections, at most {sum(one.seconds for one in found):g} s of music"]
    for number, one in enumerate(found, 1):
        script = LANGUAGE_NAMES[one.language]
        counts = f"{one.syllables} syllables in {one.seconds:g} s, {one.pace:.1f} a second, {script}"
        words = one.verdict if one.verdict == "instrumental" else f"{one.verdict}: {counts}"
        lines.append(f"{number:>3} [{one.label}] {words}" + (f"; {one.advice}" if one.advice else ""))
    report = [
        {**asdict(one), "pace": round(one.pace, 2), "verdict": one.verdict, "advice": one.advice}
        for one in found
    ]
    output.result({"sections": report, "notices": list(parsed.notices)}, lines)
    late = [one for one in found if one.verdict == "too long"]
    if strict and late:
        raise RequestError(f"[{late[0].label}] will be cut off", late[0].advice)


@lyrics.command("format", short_help="the lyrics as the model will read them")
@click.argument("text", metavar="FILE|-")
@pass_output
def write(output: Console, /, text: str) -> None:
    """Write FILE with one plain label above each section and nothing else changed; notices say what was.

    \b
    yuegguf lyrics format pasted.txt > lyrics.txt
    """
    parsed = parse_lyrics(text_or_file(text, "lyrics"))
    for notice in parsed.notices:
        output.warn(notice)
    written = lyrics_text(parsed.sections)
    output.result({"lyrics": written, "notices": list(parsed.notices)}, [written.rstrip("\n")])
