"""Elements of lyrics, line by line: the head of a section, a mark, a length, or words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from unicodedata import category

from yuegguf.request.changes import Change, Kind
from yuegguf.request.elements import Element, Head, Length, with_repeats, without_groups
from yuegguf.request.labels import (
    MAX_LABEL_CHARS,
    VOCAL_PARTS,
    Label,
    is_closing,
    is_one_word,
    plain_word,
    read_label,
)
from yuegguf.request.lengths import is_length, read_length
from yuegguf.request.marks import (
    is_direction,
    is_direction_line,
    is_exclamation,
    is_singer,
    performer_names,
    singer_prefix,
)
from yuegguf.request.repeats import repeats_of, split_times
from yuegguf.request.short_heads import SHORT_WORDS, is_abbreviated, short_head

_BRACKET = re.compile(r"^\s*\[(?!\s*\])([^\[\]]+)\]\s*(.*)$")
_BEHIND_LABEL = re.compile(r"\s*(?:[:：]+|[-–—]+(?=[\s\[]|$))\s*")
_CLOSING = re.compile(r"[\[{<＜]\s?(/[^\[\]{}<>＜＞]{1,60})[\]}>＞]")
_ANGLE = re.compile(r"^\s*[<＜]([^<>＜＞/]{1,60})[>＞](?=\s*\S)")
_BRACKET_LATER = re.compile(r"(?<=\S)\s*\[([^\[\]]+)\]")
_NUMBERED = re.compile(r"^\s*(?:(\d{1,2})[.)]\s+(?=[^\W\d])|[(（]?(\d{1,2})[.)）:：]\s*$)")
_MARKUP = (
    re.compile(r"^#{1,6}\s*(?P<inner>[^#\s].*?)\s*#*$"),
    re.compile(r"^(?P<mark>\*{1,3}|_{1,3}|~{1,2}|-{1,5}|={1,5}|—+)\s*(?P<inner>.+?)\s*(?P=mark)$"),
    re.compile(r"^\{\s*(?P<inner>[^{}]+?)\s*\}$"),
    re.compile(r"^[<＜〈《≪]\s*(?P<inner>[^<>＜＞〈〉《》≪≫]+?)\s*[>＞〉》≫]$"),
    re.compile(r"^(?P<inner>.+?)\s*[:：]$"),
)
_ROUND = re.compile(r"^[(（]\s*(?P<inner>[^()（）]+?)\s*[)）]$")
_STRONG_HEAD = re.compile(
    r"^\s*(?P<mark>\*{1,3}|_{1,3})(?P<head>[^:：*_]{1,40})[:：]\s?(?P=mark)\s*(?P<words>\S.*)$"
)
_HEAD_AND_WORDS = re.compile(r"^\s*(?P<head>[^:：]{1,40}?)\s*[:：]\s*(?P<words>\S.*)$")
_NO_HEAD = frozenset(("the", "a", "i"))


@dataclass
class _Reader:
    """Reads lines, with what the whole text says about names and labels."""

    names: frozenset[str]
    labelled: bool
    """Whether some line is a label in brackets."""
    numbered: bool
    """Whether lines that begin with 1., 2., … open verses, as in hymns."""
    abbreviated: bool
    """Whether heads such as `V1:` and `C:` open sections."""
    keep_repeats: bool
    changes: list[Change] = field(default_factory=list)
    head: Head | None = None
    """The head that the text stands behind or on the line below, with marks at most between."""
    same_line: bool = False

    def read(self, line: str, opens: bool, above: Element = "") -> list[Element]:
        """The elements of a line; `opens` = it is the first of a stanza, `above` = the element before it."""
        self.head, self.same_line = above if isinstance(above, Head) else None, False
        elements: list[Element] = []
        open_line = self._without_closing(line)
        if open_line != line and not open_line.strip():
            return []
        rest: str | None = open_line
        while rest is not None:
            more, rest = self._step(rest, opens)
            elements += more
            opens = False
            if more:
                self.head, self.same_line = more[-1] if isinstance(more[-1], Head) else None, True
            if rest is not None and not rest.strip():
                break
        return elements

    def _step(self, line: str, opens: bool) -> tuple[list[Element], str | None]:
        """The first element of a line, if it is no mark to leave out, and what is left to read."""
        seconds = read_length(line)
        if seconds is not None:
            return [Length(seconds)], None
        if is_length(line):
            self.changes.append(Change(Kind.BAD_LENGTH, line.strip()))
            return [], None
        if self.head and not self.keep_repeats and repeats_of(line, self.head.label):
            return [line], None
        short = short_head(line) if self.abbreviated else None
        if short:
            label = Label(SHORT_WORDS[short["word"].lower()], again=True)
            return self._head(label, short["head"].strip(), short["words"])
        bracket = _BRACKET.match(line)
        if bracket:
            return self._bracket(line, bracket[1].strip(), bracket[2])
        number = _NUMBERED.match(line) if self.numbered else None
        if number:
            return self._head(Label("verse"), number[0].strip(), line[number.end() :])
        plain = self._plain_head(line, opens)
        if plain:
            return plain
        singer = singer_prefix(line, self.names)
        if singer:
            self.changes.append(Change(Kind.SINGER, singer[0]))
            return [], singer[1]
        if is_direction_line(line):
            self.changes.append(Change(Kind.DIRECTION, line.strip()))
            return [], None
        return self._later_brackets(line)

    def _without_closing(self, line: str) -> str:
        """A line without marks such as `[/verse]` and `</verse>`."""
        found = [match for match in _CLOSING.finditer(line) if match[0][0] == "[" or is_closing(match[1])]
        self.changes += [Change(Kind.CLOSING, match[0]) for match in found]
        bounds = [0, *(place for match in found for place in match.span()), len(line)]
        return "".join(line[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))

    def _later_brackets(self, line: str) -> tuple[list[Element], str | None]:
        """A line of words without directions in brackets, and what is left to read: from a label in it on."""
        out, end = "", 0
        for match in _BRACKET_LATER.finditer(line):
            out, end = out + line[end : match.start()], match.end()
            label = read_label(match[1])
            if label and label.strong:
                return self.read(out, False), line[match.start() :]
            if split_times(f"[{match[1]}]") or is_exclamation(match[1]):
                out += match[0]
            else:
                self.changes.append(Change(Kind.DIRECTION, f"[{match[1]}]"))
        return [out + line[end:]], None

    def _bracket(self, line: str, inner: str, rest: str) -> tuple[list[Element], str | None]:
        """Elements of a line that begins with a text in brackets, and the text after it or None."""
        if split_times(f"[{inner}]"):
            return [line], None
        label = self._label_here(inner, rest)
        if label:
            return self._head(label, f"[{inner}]", rest)
        if is_exclamation(inner):
            return [line], None
        kind = Kind.SINGER if is_singer(inner, self.names) else Kind.DIRECTION
        self.changes.append(Change(kind, f"[{inner}]"))
        return [], rest

    def _label_here(self, inner: str, rest: str) -> Label | None:
        """The label that a text in brackets is; None for a mark, as any one word is right after a label."""
        label = read_label(inner)
        if label and self.head and self.same_line:
            is_other = label.pure or plain_word(label.word) != plain_word(self.head.label)
            return label if label.strong and is_other and label.word.lower() != "instrumental" else None
        is_own = not self.head and not rest and is_one_word(inner) and not self._is_mark(inner)
        return Label(inner) if label is None and is_own else label

    def _is_mark(self, inner: str) -> bool:
        return is_singer(inner, self.names) or is_direction(inner)

    def _head(self, label: Label, written: str, rest: str) -> tuple[list[Element], str | None]:
        """A head and what is left to read; a repeat mark after it repeats the section."""
        words = _words_behind(rest)
        if words != rest:
            signs = rest.removesuffix(words).strip()
            written, rest = f"{written}{'' if signs[:1] in ':：' else ' '}{signs}", words
        mark = split_times(rest) if len(rest) <= 40 else None
        line = written
        if mark and not mark[0] and not self.keep_repeats and not repeats_of(rest, label.word):
            label, line, rest = replace(label, times=mark[1]), f"{written} {rest.strip()}", ""
        if written != f"[{label.word}]":
            self.changes.append(Change(Kind.LABEL, f"{written} as [{label.word}]"))
        return [Head(label.word, 1 if self.keep_repeats else label.times, label.again, line)], rest

    def _plain_head(self, line: str, opens: bool) -> tuple[list[Element], str | None] | None:
        """Head without brackets, such as `Verse 1:`, `**Chorus**` or `CHORUS`; else None."""
        angle = _ANGLE.match(line)
        if angle and (label := read_label(angle[1])) and label.pure and label.strong:
            return self._head(label, angle[0].strip(), line[angle.end() :])
        if len(line) > MAX_LABEL_CHARS and ":" not in line and "：" not in line:
            return None
        inner, decorated, round_ = _undecorated(line)
        bracket = _BRACKET.match(inner)
        if decorated and bracket and (label := read_label(bracket[1].strip())):
            return self._head(label, line.strip(), bracket[2])
        label = read_label(inner)
        if label and label.pure and self._is_plain_head(label, inner, decorated, round_, opens):
            return self._head(replace(label, word=label.word.lower(), again=True), line.strip(), "")
        split = _STRONG_HEAD.match(line) or _HEAD_AND_WORDS.match(line)
        label = read_label(split["head"]) if split else None
        if split and label and label.pure and label.strong and _first_word(split["head"]) not in _NO_HEAD:
            lower = replace(label, word=label.word.lower())
            return self._head(lower, line[: split.start("words")].strip(), split["words"])
        return None

    def _is_plain_head(self, label: Label, inner: str, decorated: bool, round_: bool, opens: bool) -> bool:
        if _first_word(inner) in _NO_HEAD:
            return False
        if round_:
            return label.strong and label.word.lower() in VOCAL_PARTS
        if decorated:
            return True
        capitals = inner.isupper() and len(inner) > 1
        return label.strong and (capitals or (opens and not self.labelled))


def read_elements(lines: Sequence[str], keep_repeats: bool) -> tuple[list[Element], list[Change]]:
    """Elements of the lines, in order. Singer marks and stage directions are left out."""
    brackets = [match[1] for line in lines if (match := _BRACKET.match(line))]
    labelled = any(read_label(text.strip()) for text in brackets) and not _has_plain_heads(lines)
    numbered = not labelled and _are_numbered(lines)
    reader = _Reader(performer_names(lines), labelled, numbered, is_abbreviated(lines), keep_repeats)
    elements: list[Element] = []
    opens = True
    for line in lines:
        elements += reader.read(line, opens, elements[-1] if elements else "")
        opens = not line.strip()
    elements = with_repeats(elements, reader.changes)
    return without_groups(elements, reader.changes), reader.changes


def _has_plain_heads(lines: Sequence[str]) -> bool:
    """Whether labels without brackets stand above those in brackets, or beside none of a vocal part."""
    plain = [at for at in range(len(lines)) if _is_label_above_words(lines, at)]
    bracketed = [
        (at, label)
        for at, line in enumerate(lines)
        if (match := _BRACKET.match(line)) and (label := read_label(match[1].strip()))
    ]
    are_vocal = any(plain_word(label.word) in VOCAL_PARTS for _, label in bracketed)
    return bool(plain) and (not bracketed or plain[0] < bracketed[0][0] or not are_vocal)


def _is_label_above_words(lines: Sequence[str], at: int) -> bool:
    """Whether a line opens a stanza, is nothing but a label, and has words below it."""
    above, below = lines[at - 1] if at else "", lines[at + 1] if at + 1 < len(lines) else ""
    line = lines[at].strip()
    if above.strip() or not line[:1].isalnum() or not below.strip() or below.lstrip()[0] == "[":
        return False
    label = read_label(line)
    return label is not None and label.pure and label.strong and _first_word(line) not in _NO_HEAD


def _are_numbered(lines: Sequence[str]) -> bool:
    """Whether verses of two lines or more are numbered from 1."""
    numbers = []
    for line, below in pairwise([*lines, ""]):
        if number := _NUMBERED.match(line):
            numbers.append(int(number[1] or number[2]))
            if not below.strip() or _NUMBERED.match(below):
                return False
    return len(numbers) > 1 and numbers == [*range(1, len(numbers) + 1)]


def _without_pictures(line: str) -> str:
    """A line without emoji and the like on both of its sides."""
    inner = [at for at, sign in enumerate(line) if not _is_picture(sign) and not sign.isspace()]
    is_framed = bool(inner) and _is_picture(line[0]) and _is_picture(line[-1])
    return line[inner[0] : inner[-1] + 1] if is_framed else line


def _is_picture(sign: str) -> bool:
    return category(sign) in ("So", "Sk", "Cf") or sign == "\ufe0f"


@lru_cache(maxsize=1024)
def _undecorated(line: str) -> tuple[str, bool, bool]:
    """A line without markup around it, whether it had some, and whether that was round brackets."""
    inner, round_ = _without_pictures(line.strip()), False
    while len(inner) <= 60:
        mark = split_times(inner)
        body, times = (mark[0], inner[len(mark[0]) :]) if mark and mark[0] else (inner, "")
        match = next((found for pattern in (*_MARKUP, _ROUND) if (found := pattern.match(body))), None)
        if not match:
            break
        round_ = round_ or match.re is _ROUND
        inner = match["inner"] + times
    return inner, inner != line.strip(), round_


def _words_behind(rest: str) -> str:
    """Words behind a label, without a colon or dash before them; signs alone are none."""
    sign = _BEHIND_LABEL.match(rest)
    words = rest[sign.end() :] if sign else rest
    return words if any(letter.isalnum() for letter in words) else ""


def _first_word(text: str) -> str:
    return (text.split() or [""])[0].lower()
