"""Lyrics → sections. Nothing is dropped without a notice, and `[Verse 1]` works.

What upstream accepts (one word in brackets, `infer.py`) keeps its exact text, so the prompt is the
official one; text that upstream would lose is normalised or kept as lyrics, with a notice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from yuegguf.errors import RequestError

KNOWN_LABELS = frozenset(
    (
        *("verse", "chorus", "bridge", "intro", "outro", "prechorus", "postchorus", "hook", "refrain"),
        *("interlude", "instrumental", "inst", "solo", "break", "breakdown", "drop", "build", "rap"),
        *("spoken", "start", "end", "coda", "tag", "vamp", "ending", "opening", "theme"),
    )
)
"""First words of a label that make any bracketed line a section: `[Verse 1: soft]`."""

MAX_LYRICS_CHARS, MAX_BODY_CHARS, MAX_LABEL_CHARS = 100_000, 20_000, 100
"""Characters of lyrics, of a section's lines, of a label: more than any model's context holds."""
MAX_SECTIONS = 200
"""Sections of lyrics, and of a choice of them."""

_HEADER = re.compile(r"^\s*\[([^\[\]\n]+)\]\s*(.*)$")
_UPSTREAM_LABEL = re.compile(r"^\w+$")
_REPEAT_MARK = re.compile(r"^(x\s*\d+|\d+\s*x|repeat)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^\s*([^\W\d_]+)[\s:：-]*(?:[x×]\s*\d+|\d+(?:\s*[x×])?)\s*$", re.IGNORECASE)
_LENGTH = re.compile(r"^\s*#length\s+(\d+(?:\.\d+)?)\s*$", re.IGNORECASE)
_MARKERS = ("[start_of_segment]", "[end_of_segment]", "[start_of_reference]", "[end_of_reference]")


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
    """Parsed lyrics, with a notice for each interpretation."""

    sections: tuple[Section, ...]
    notices: tuple[str, ...]


@lru_cache(maxsize=4)
def parse_lyrics(text: str) -> Lyrics:
    """Split lyrics into sections.

    A line that starts with a label in brackets opens a section. Brackets inside a line, repeat
    marks such as `[x2]` and unknown stage directions stay lyrics. Raises RequestError when there
    is no text, no label at all, or more than the limits above.
    """
    check_text_length(text, MAX_LYRICS_CHARS, "the lyrics")
    if not is_valid_text(text):
        raise RequestError("the lyrics are not text", "pass a UTF-8 text file")
    clean = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not clean.strip():
        raise RequestError("the lyrics are empty", "write sections such as [verse] with their lines")
    parser = _Parser()
    for number, line in enumerate(clean.split("\n"), 1):
        parser.read(number, line)
    return parser.finish()


def is_valid_text(text: str) -> bool:
    """Whether a string is valid text: no zero character and no undecoded bytes."""
    return "\0" not in text and text.encode(errors="ignore").decode() == text


def check_text_length(text: str, most: int, name: str) -> None:
    """Raise RequestError for a text of more than `most` characters."""
    if len(text) > most:
        raise RequestError(f"{name} have {len(text):,} characters", f"use at most {most:,}")


def choose_sections(sections: tuple[Section, ...], spec: str) -> tuple[Section, ...]:
    """The sections that a choice names: "all", "2" (the first two) or "1,3-4". Raises RequestError."""
    return tuple(sections[number - 1] for number in section_numbers(len(sections), spec))


def section_numbers(count: int, spec: str) -> list[int]:
    """Numbers from 1 that a choice among `count` sections names. Raises RequestError."""
    spec = spec.strip().lower()
    if spec == "all":
        return list(range(1, count + 1))
    if len(spec) > 10 * MAX_SECTIONS or not re.fullmatch(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", spec):
        raise RequestError(f"--sections {spec[:80]!r} is not a choice of sections", "write all, 2 or 1,3-4")
    if spec.isdigit():
        if int(spec) == 0:
            raise RequestError("--sections 0 leaves nothing to generate", "write all, 2 or 1,3-4")
        return list(range(1, min(int(spec), count) + 1))
    chosen: list[int] = []
    for part in spec.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= count:
            raise RequestError(
                f"--sections {part} is not among the {count} sections of these lyrics",
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


class _Parser:
    """Line-by-line parser; holds the current section."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.notices: list[str] = []
        self.label: str | None = None
        self.lines: list[str] = []
        self.seconds: float | None = None
        self.next_seconds: float | None = None

    def read(self, number: int, line: str) -> None:
        length = _LENGTH.match(line)
        if length:
            self.next_seconds = float(length[1])
            return
        header = _HEADER.match(line)
        label = _label(header[1], header[2]) if header else None
        if header and label:
            self._open(label, header[1], number)
            line = header[2]
            if not line:
                return
        elif header and header[1].strip():
            self.notices.append(
                f"line {number}: [{header[1][:MAX_LABEL_CHARS]}] is not a section label; kept as lyrics"
            )
        self.lines.append(self._without_markers(line, number))

    def finish(self) -> Lyrics:
        if self.label is None:
            raise RequestError(
                "the lyrics have no section label",
                "put [verse], [chorus], … on a line of its own before each part",
            )
        self._close()
        if self.next_seconds is not None:
            self.notices.append("a #length line after the last section has no effect")
        return Lyrics(tuple(self.sections), tuple(self.notices))

    def _open(self, label: str, written: str, number: int) -> None:
        self._close()
        if label != written:
            self.notices.append(f"line {number}: [{written}] is read as [{label}]")
        self.label, self.seconds, self.next_seconds = label, self.next_seconds, None

    def _close(self) -> None:
        body = "\n".join(self.lines).strip()
        self.lines = []
        check_text_length(body, MAX_BODY_CHARS, f"the lines of [{self.label or 'verse'}]")
        if len(self.sections) == MAX_SECTIONS:
            raise RequestError(
                f"the lyrics have more than {MAX_SECTIONS} sections", "use fewer, or two songs"
            )
        if self.label is not None:
            self.sections.append(Section(self.label, body, self.seconds))
        elif body:
            self.sections.append(Section("verse", body))
            self.notices.append("the lines before the first label are read as a [verse]")

    def _without_markers(self, line: str, number: int) -> str:
        for marker in _MARKERS:
            if marker in line:
                line = line.replace(marker, "")
                self.notices.append(f"line {number}: {marker} is a control marker of the model; removed")
        return line


def _label(written: str, rest: str) -> str | None:
    """The label of a bracket at the start of a line; None if it is lyrics."""
    if len(written) > MAX_LABEL_CHARS or f"[{written}]" in _MARKERS or _REPEAT_MARK.match(written.strip()):
        return None
    words = re.findall(r"[^\W\d_]+", written.lower())
    if _UPSTREAM_LABEL.match(written) and (not rest or (words[:1] and words[0] in KNOWN_LABELS)):
        return written
    for count in (2, 1):  # "pre chorus" before "pre"
        name = "".join(words[:count])
        if len(words) >= count and name in KNOWN_LABELS:
            return name
    numbered = _NUMBERED.match(written)
    if numbered and not rest and not _latin(numbered[1]):  # [副歌 2]
        return numbered[1]
    return None


def _latin(word: str) -> bool:
    """Whether a word has Latin letters, so that KNOWN_LABELS decides."""
    return any("LATIN" in unicodedata.name(letter, "") for letter in word)
