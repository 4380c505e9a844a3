"""LRC (timed lyrics) → plain lyrics whose sections have the lengths that the times give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, median_low
from typing import NamedTuple

from yuegguf.request.changes import Change, Kind
from yuegguf.request.head_lines import count_head_lines
from yuegguf.request.labels import read_label
from yuegguf.request.ranges import MAX_SECTION_SECONDS, MIN_SECTION_SECONDS
from yuegguf.request.repeats import is_repeat

GAP_FACTOR, MIN_GAP, MOST_LINES = 2.0, 4.0, 8
"""Without labels a stanza ends before a line that comes this many usual gaps, and seconds, after the last,
and has at most this many lines."""
FEWEST_TIMED = 3
"""Most lines for each time of its own in an LRC: lyrics in three languages have three."""

_STAMP = r"\[(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?\]"
_STAMPS = re.compile(rf"^\s*(?:{_STAMP}\s*)*{_STAMP}")
_ANY_STAMP = re.compile(_STAMP)
_WORD_TIME = re.compile(r"<\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?> ?")
_TAG = re.compile(
    r"^\s*\[(ar|ti|al|au|by|re|ve|la|length|offset|tool|lr|id|#)\s*:([^\]]*)\]\s*$", re.IGNORECASE
)
_LABEL = re.compile(r"^\[([^\[\]]+)\]\s*$")


@dataclass(frozen=True)
class _Line:
    """A line, and the time in seconds by which it has its place."""

    time: float
    text: str
    start: float | None = None
    """Its own time; None for a line without one, which stays behind the line before it."""


class _ReadLine(NamedTuple):
    """A line as it is written, with its times in seconds."""

    times: list[float]
    words: str
    above: int
    """Blank lines without a time above it."""


def plain_lyrics(text: str) -> tuple[str, list[Change]]:
    """Lyrics without times; a text without any is returned as it is.

    A label's time, or that of the line below it, is the start of its section, which ends at the next label's
    time, or at `[length:…]`. Without labels, empty lines and long gaps end a stanza.
    """
    lines = text.split("\n")
    if not any(_STAMPS.match(line) for line in lines):
        return text, []
    changes: list[Change] = []
    end: float | None = None
    others: list[str] = []
    for line in lines:
        tag = _TAG.match(line)
        if tag:
            changes.append(Change(Kind.FILE_TAGS, line.strip()))
            end = _length(tag[2]) if tag[1].lower() == "length" else end
        else:
            others.append(line)
    timed = _timed(others)
    heads = count_head_lines([line.text for line in timed])
    changes += [Change(Kind.HEAD, line.text.strip()) for line in timed[:heads] if line.text.strip()]
    timed = timed[heads:]
    labelled = any(_is_label(line.text) for line in timed)
    written = _labelled(timed, end, changes) if labelled else _stanzas(timed, end, changes)
    changes.append(Change(Kind.TIMES))
    return "\n".join(written) + "\n", changes


def _timed(lines: Sequence[str]) -> list[_Line]:
    """Lines in the order of their times; of blank lines without a time, those that stand apart."""
    read: list[_ReadLine] = []
    blanks = 0
    for line in lines:
        times, words = _read_line(line)
        if times or words.strip():
            read.append(_ReadLine(times, words, blanks))
            blanks = 0
        else:
            blanks += 1
    spaces = [b.above for a, b in pairwise(read) if b.times and b.times != a.times]
    is_timed = FEWEST_TIMED * len(spaces) >= len(read) - 1  # and not a few times among plain lyrics
    usual = median_low(spaces or [0]) if is_timed else 0  # 1 where all lines, or pairs of lines, are spaced
    before = [min(time for each in read for time in each.times)]
    timed: list[_Line] = []
    for times, words, above in read:
        if is_repeat(words):
            times, above = [], 0  # it belongs to the lines above, however far they are
        if timed and above > usual:
            timed += [_Line(time, "") for time in before]
        timed += [_Line(time, words, time) for time in times] or [_Line(before[-1], words)]
        before = times or before[-1:]
    timed.sort(key=lambda line: line.time)  # stable: lines of one time stay in order
    while timed[-1].start is None and not timed[-1].text.strip():
        timed.pop()  # behind the last of several times of a line
    return timed


def _read_line(line: str) -> tuple[list[float], str]:
    """The times of a line, and its words without the times of words."""
    stamps = _STAMPS.match(line)
    times, rest = [], line
    if stamps:
        times = [_seconds(found.groups()) for found in _ANY_STAMP.finditer(stamps[0])]
        rest = line[stamps.end() :].removeprefix(" ")
    return times, _ANY_STAMP.sub("", _WORD_TIME.sub("", rest))


def _seconds(parts: Sequence[str | None]) -> float:
    minutes, seconds, fraction = parts
    return int(minutes or 0) * 60 + int(seconds or 0) + (float(f"0.{fraction}") if fraction else 0.0)


def _length(written: str) -> float | None:
    """Seconds of a `[length:mm:ss.xx]` tag; None where it is no time."""
    match = _ANY_STAMP.fullmatch(f"[{written.strip()}]")
    return _seconds(match.groups()) if match else None


def _is_label(text: str) -> bool:
    match = _LABEL.match(text.strip())
    return bool(match and read_label(match[1]))


def _labelled(timed: Sequence[_Line], end: float | None, changes: list[Change]) -> list[str]:
    """Lines of an LRC with labels, with a `#length` line above each label."""
    starts = [_start(timed, at) for at, line in enumerate(timed) if _is_label(line.text)]
    lengths = iter([_difference(a, b) for a, b in pairwise([*starts, end])])
    written = []
    for line in timed:
        if _is_label(line.text):
            written += _length_line(next(lengths, None), changes)
        elif _LABEL.match(line.text) and written and _is_label(written[-1]):
            written.append("")  # with a time of its own it is no mark of the label above
        written.append(line.text)
    return written


def _stanzas(timed: Sequence[_Line], end: float | None, changes: list[Change]) -> list[str]:
    """Lines of an LRC without labels as stanzas with blank lines between, and a `#length` line above each."""
    gaps = [b.time - a.time for a, b in pairwise(timed) if a.text.strip() and b.text.strip()]
    most = max(MIN_GAP, GAP_FACTOR * median(gaps)) if gaps else MIN_GAP
    stanzas: list[list[_Line]] = []
    last: _Line | None = None
    for line in timed:
        if line.text.strip():
            if last is None or not last.text.strip() or line.time - last.time > most:
                stanzas.append([])
            stanzas[-1].append(line)
        last = line
    parts = [part for stanza in stanzas for part in _parts(stanza)]
    final = timed[-1].start if timed and not timed[-1].text.strip() else end
    bounds = [*(part[0].start for part in parts), final]
    written = []
    for part, (start, stop) in zip(parts, pairwise(bounds), strict=True):
        written += [*_length_line(_difference(start, stop), changes), *(line.text for line in part), ""]
    return written


def _start(timed: Sequence[_Line], at: int) -> float | None:
    """Start of a label's section: the label's time, else that of the line below it; None without both."""
    if timed[at].start is not None:
        return timed[at].start
    filled = (timed[place] for place in range(at + 1, len(timed)) if timed[place].text.strip())
    return next((line.start for line in filled), None)


def _difference(start: float | None, stop: float | None) -> float | None:
    return None if start is None or stop is None else stop - start


def _parts(stanza: Sequence[_Line]) -> list[Sequence[_Line]]:
    """A stanza in about equal parts of at most MOST_LINES, if possible with lines of one time together."""
    count = -(-len(stanza) // MOST_LINES)
    begins = [0, *(at for at in range(1, len(stanza)) if stanza[at].time != stanza[at - 1].time)]
    if len(begins) < count:
        begins = list(range(len(stanza)))
    marks = [begins[len(begins) * n // count] for n in range(count)]
    return [stanza[a:b] for a, b in pairwise([*marks, len(stanza)])]


def _length_line(seconds: float | None, changes: list[Change]) -> list[str]:
    """The `#length` line of a section; none where its length is unknown or out of range."""
    if seconds is None:
        return []
    if not MIN_SECTION_SECONDS <= round(seconds, 2) <= MAX_SECTION_SECONDS:
        changes.append(Change(Kind.NO_LENGTH, f"{seconds:.2f} s"))
        return []
    changes.append(Change(Kind.TIME_LENGTHS))
    return [f"#length {round(seconds, 2):g}"]
