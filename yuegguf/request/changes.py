"""Changes that reading pasted lyrics makes, and the sentence that reports each kind once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from yuegguf.request.ranges import MAX_SECTION_SECONDS, MIN_SECTION_SECONDS

MOST_LISTED, MOST_CHARS = 6, 60
"""Texts that a notice lists, and characters of each; `lyrics format --json` has all of them whole."""


class Kind(Enum):
    """A kind of change; the value begins its notice, in the order in which notices are given."""

    INVISIBLE = "invisible characters are left out"
    COMPOSED = "letters and their accents are joined (NFC)"
    BRACKETS = "full-width brackets are read as brackets"
    SPACES = "spaces between single signs are left out"
    MARKUP = "marks of web pages and quoted messages are left out"
    MARKDOWN = "marks of Markdown are left out"
    CONTROL = "control markers of the model are left out"
    TIMES = "times are left out"
    TIME_LENGTHS = "the times set the length of sections (#length)"
    NO_LENGTH = (
        f"times that give a section less than {MIN_SECTION_SECONDS} or more than "
        f"{MAX_SECTION_SECONDS} s set no length"
    )
    FILE_TAGS = "tags and notes of a file with times are left out"
    SITE = "what a lyric site adds is left out"
    CHORDS = "chords are left out"
    HEAD = "lines above the lyrics are left out"
    FOOT = "credits below the lyrics are left out"
    BEFORE = "lines before the first label are read as a [verse]"
    STANZAS = "no line is a label, so stanzas are sections"
    LABEL = "labels are read as words that the model knows"
    SINGER = "singer marks are left out, since YuE has none"
    DIRECTION = "stage directions are left out"
    REPEAT = "repeats are written out"
    WORDLESS = "sections without words are instrumental"
    CLOSING = "marks that close a section are left out"
    BAD_LENGTH = "#length lines without a number of seconds are left out"
    NO_SECTION = "a #length line without a section has no effect"


@dataclass(frozen=True)
class Change:
    """One change, with the text that it concerns."""

    kind: Kind
    text: str = ""


def notices(changes: Sequence[Change]) -> tuple[str, ...]:
    """One sentence for each kind of change, with the first texts that it concerns."""
    sentences = []
    for kind in Kind:
        texts = list(dict.fromkeys(change.text for change in changes if change.kind is kind))
        if not texts:
            continue
        shown = listed([shortened(text) for text in texts if text])
        sentences.append(f"{kind.value}: {shown}" if shown else kind.value)
    return tuple(sentences)


def listed(texts: Sequence[str]) -> str:
    """The first texts with commas between, and how many more there are."""
    more = len(texts) - MOST_LISTED
    return ", ".join(texts[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def shortened(text: str) -> str:
    """A text on one line, of at most MOST_CHARS characters."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_CHARS else f"{line[: MOST_CHARS - 1]}…"
