"""Marks that repeat a line or the lines above: `(x2)`, `[2x]`, `(bis)`."""

from __future__ import annotations

import re

from yuegguf.request.changes import Change, Kind
from yuegguf.request.labels import MOST_TIMES, plain_word, read_label

_COUNT = (
    r"(?:repeat\s*)?"
    r"(?:[x×*]\s*(?P<a>\d{1,2})|(?P<b>\d{1,2})\s*(?:[x×]|times|times?\s+more|回|遍|次|번))"
)
_TWICE = r"(?:bis|twice|repeat(?: twice)?|再唱一遍|重复|重複|反复|くり返し|繰り返し|반복)"
_THRICE = r"(?:three times|thrice|ter)"
_MARK = re.compile(
    rf"[(（\[]\s*(?:{_COUNT}|(?P<twice>{_TWICE})|(?P<thrice>{_THRICE}))\s*[)）\]]\s*$"
    r"|(?:^|(?<=\s))(?:[x×](?P<c>\d{1,2})|(?P<d>\d{1,2})[x×])\s*$",
    re.IGNORECASE,
)

_IN_BRACKETS = re.compile(
    r"\s*[(（\[{<*]\s*(?P<inner>[^\s()（）\[\]{}<>*][^()（）\[\]{}<>*]{0,60})[)）\]}>*]\s*[.:：]?\s*"
)
_SAME = re.compile(
    rf"(?:repeat(?:s|ed)?|again|same|as before|as above|{_TWICE})"
    r"(?: as| the| above| before| first| last| earlier)*(?: (?P<label>\S.*))?",
    re.IGNORECASE,
)


def repeats_of(line: str, label: str) -> int:
    """Times that a line below this label repeats an earlier section of it; 0 = it is no such line."""
    match = _IN_BRACKETS.fullmatch(line)
    inner = " ".join(match["inner"].split()) if match else ""
    named = read_label(inner)
    if named and named.again and plain_word(named.word) == plain_word(label):
        return named.times
    same = _SAME.fullmatch(inner)
    named = read_label(same["label"]) if same and same["label"] else None
    is_it = named is not None and plain_word(named.word) == plain_word(label)
    return int(same is not None and (is_it or not same["label"]))


def split_times(line: str) -> tuple[str, int] | None:
    """A line without the repeat mark at its end, and its number of times; None if it has no such mark."""
    match = _MARK.search(line)
    if not match:
        return None
    digits = next((match[name] for name in ("a", "b", "c", "d") if match[name]), None)
    times = int(digits) if digits else 2 if match["twice"] else 3
    return (line[: match.start()].rstrip(), times) if 1 <= times <= MOST_TIMES else None


def is_repeat(line: str) -> bool:
    """Whether a line is a repeat mark and nothing else."""
    return (split_times(line) or ("words", 1))[0] == ""


def written_out(lines: list[str], most_chars: int) -> tuple[list[str], int, list[Change]]:
    """A section's lines with repeats written out, and how often the section itself comes.

    A mark after words repeats its line, a mark alone the lines above it to the last blank one, and a mark
    alone above all lines the section. Stops at `most_chars` characters, and leaves the marks after that.
    """
    changes: list[Change] = []
    out: list[str] = []
    times, size = 1, 0
    for line in lines:
        mark = split_times(line)
        if mark is None:
            out.append(line)
            size += len(line) + 1
            continue
        words, count = mark
        group = [words] if words else _lines_above(out)
        copies = count if words else count - 1
        grown = copies * sum(len(part) + 1 for part in group)
        if size + grown > most_chars:
            out.append(line)
            size += len(line) + 1
            continue
        if not group and not any(part.strip() for part in out):
            times = count
        out += group * copies
        size += grown
        changes.append(Change(Kind.REPEAT, line.strip()))
    return out, times, changes


def _lines_above(lines: list[str]) -> list[str]:
    """The last lines with words, from the last blank one above them on."""
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    start = end
    while start and lines[start - 1].strip():
        start -= 1
    return lines[start:end]
