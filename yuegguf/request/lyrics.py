"""Lyrics → sections. Nothing is dropped without a notice, and `[Verse 1]` works.

What upstream accepts (one word in brackets, `infer.py`) keeps its exact text, so the prompt is the
official one; what upstream would lose or generate as words is read as it is meant (`blocks`), with a notice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from yuegguf.errors import RequestError
from yuegguf.request.blocks import Block, read_blocks
from yuegguf.request.changes import Change
from yuegguf.request.changes import notices as notices_of
from yuegguf.request.valid_text import MAX_LYRICS_CHARS, check_text_length, is_valid_text

MAX_BODY_CHARS = 20_000
"""Characters of a section's lines: more than any model's context holds."""
MAX_SECTIONS = 200
"""Sections of lyrics, and of a choice of them."""
COUNT = re.compile(r"\d{1,9}")
"""A choice of so many sections, of digits that `int` reads."""
_CHOICE = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*")
MOST_READINGS = 50
"""Readings after which lyrics that still change are refused; ordinary ones take one or two."""


@dataclass(frozen=True)
class Section:
    """One part of a song, generated from one prompt."""

    label: str
    """The word in brackets: verse, chorus, …"""
    body: str
    """The section's lines, without surrounding blank lines; may be empty (instrumental)."""
    seconds: float | None = None
    """Most seconds of this section, from a `#length 20` line above it; None = the song's default."""

    @property
    def text(self) -> str:
        """The section as in the prompt: label line, body, one blank line."""
        return f"[{self.label}]\n{self.body.strip()}\n\n"


@dataclass(frozen=True)
class Lyrics:
    """Parsed lyrics, with every change that reading them made."""

    sections: tuple[Section, ...]
    changes: tuple[Change, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """One sentence for each kind of change."""
        return notices_of(self.changes)


@lru_cache(maxsize=4)
def parse_lyrics(text: str, keep_repeats: bool = False) -> Lyrics:
    """Split lyrics into sections, as people write or paste them.

    Labels become words that the model knows, marks and junk are left out, and repeats are written out, unless
    `keep_repeats` is true; `format_lyrics` of the result is read as the same sections, without a change.
    Raises RequestError when there are no words and no labels, or more than the limits above.
    """
    check_text_length(text, MAX_LYRICS_CHARS, "the lyrics")
    if not is_valid_text(text):
        raise RequestError("the lyrics are not text", "pass a UTF-8 text file")
    if not text.lstrip("\ufeff").strip():
        raise RequestError("the lyrics are empty", "write sections such as [verse] with their lines")
    changes: list[Change] = []
    sections: tuple[Section, ...] = ()
    for _ in range(MOST_READINGS):  # what was left out may uncover a label or mark
        blocks, made = read_blocks(text, keep_repeats, MAX_LYRICS_CHARS)
        changes += made
        before, sections = sections, _sections_of(blocks)
        if sections == before:
            return Lyrics(sections, tuple(changes))
        text = format_lyrics(sections)
    raise RequestError(
        "the lyrics cannot be told apart from their marks", "take brackets and marks out of them"
    )


def _sections_of(blocks: Sequence[Block]) -> tuple[Section, ...]:
    """Blocks as sections. Raises RequestError where there are none, or more than the limits allow."""
    sections = tuple(Section(b.head.label, b.body, b.seconds) for b in blocks if b.head is not None)
    if not sections:
        raise RequestError(
            "the lyrics have no words and no section label", "write sections such as [verse] with their lines"
        )
    if len(sections) > MAX_SECTIONS:
        raise RequestError(f"the lyrics have more than {MAX_SECTIONS} sections", "use fewer, or two songs")
    for section in sections:
        check_text_length(section.body, MAX_BODY_CHARS, f"the lines of [{section.label}]")
    return sections


def choose_sections(sections: tuple[Section, ...], spec: str) -> tuple[Section, ...]:
    """The sections that a choice names: "all", "2" (the first two) or "1,3-4". Raises RequestError."""
    return tuple(sections[number - 1] for number in section_numbers(len(sections), spec))


def section_numbers(count: int, spec: str) -> list[int]:
    """Numbers from 1 that a choice among `count` sections names. Raises RequestError."""
    spec = spec.strip().lower()
    if spec == "all":
        return list(range(1, count + 1))
    if len(spec) > 10 * MAX_SECTIONS or not _CHOICE.fullmatch(spec):
        raise RequestError(f"--sections {spec[:80]!r} is not a choice of sections", "write all, 2 or 1,3-4")
    if COUNT.fullmatch(spec):
        if int(spec) == 0:
            raise RequestError("--sections 0 leaves nothing to generate", "write all, 2 or 1,3-4")
        return list(range(1, min(int(spec), count) + 1))
    chosen: list[int] = []
    for part in spec.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high:
            raise RequestError(f"--sections {part} runs backwards", f"write {high}-{low}")
        if not 1 <= low <= high <= count:
            noun = "section" if count == 1 else "sections"
            raise RequestError(
                f"--sections {part} is not among the {count} {noun} of these lyrics",
                "count them from 1",
            )
        chosen += range(low, high + 1)
        if len(chosen) > MAX_SECTIONS:
            raise RequestError("--sections chooses too many", f"use at most {MAX_SECTIONS} in all")
    return chosen


def format_lyrics(sections: Sequence[Section]) -> str:
    """Sections as text; the inverse of `parse_lyrics`."""
    lengths = [_length_line(s.seconds) if s.seconds is not None else "" for s in sections]
    return "\n".join(f"{n}[{s.label}]\n{s.body}\n" for n, s in zip(lengths, sections, strict=True))


def _length_line(seconds: float) -> str:
    """The `#length` line of these seconds, to the last digit."""
    return f"#length {Decimal(repr(seconds)).normalize():f}\n"
