"""Chords and tablature among lyrics."""

from __future__ import annotations

import re

from yuegguf.request.changes import Change, Kind
from yuegguf.request.labels import read_label
from yuegguf.request.short_heads import is_abbreviated, short_head

_CHORD = (
    r"[A-G][#b♯♭]?(?:maj|min|dim|aug|sus|add|m|M|°|ø|\+)?\d{0,2}(?:(?:maj|min|dim|aug|sus|add|[#b])\d{1,2})*"
    r"(?:/[A-G][#b♯♭]?)?"
)
_TOKEN = re.compile(rf"\(?{_CHORD}\)?|[|:%]+|-+|N\.?C\.?|x\d")
_PLAIN = re.compile(r"[A-G]")
_INLINE = re.compile(rf"\[({_CHORD})\]")
_TAB = re.compile(r"^\s*[eEBGDAd]?\s*\|[-\dhpbrx/\\~|\s()]{6,}$")
_DIRECTIVE = re.compile(
    r"^\s*\{(?:title|t|subtitle|st|artist|key|tempo|capo|comment|c|ci|(?:so|eo)[a-z]|(?:start|end)_of_\w+)"
    r"(?:[:\s].*)?\}\s*$"
)
_SECTION = re.compile(
    r"^\s*\{\s?(?:(?:start_of_|so)(?P<part>verse|v|chorus|c|bridge|b)(?:[:\s]\s*(?P<name>[^{}]*))?"
    r"|(?:comment|c|ci)\s?:(?P<comment>[^{}]*))\}\s*$"
)
"""Directives that open a section: `{start_of_verse: Verse 1}`, `{soc}`, `{comment: Bridge}`."""
_PARTS = {"v": "verse", "c": "chorus", "b": "bridge"}


def without_chords(lines: list[str]) -> tuple[list[str], list[Change]]:
    """Lines without chord lines, tablature, `[Am]` among words, and directives of chord sheets."""
    changes: list[Change] = []
    kept = []
    heads = {line for line in lines if short_head(line)} if is_abbreviated(lines) else set()
    rows = [number for number, line in enumerate(lines) if line not in heads and _is_chord_row(line)]
    sheet = set(rows) if len(rows) > 1 or any(not _bare(lines[number]) for number in rows) else set()
    inline = any(_INLINE.search(line) and _INLINE.sub("", line).strip() for line in lines)
    for number, line in enumerate(lines):
        word = _section_word(line)
        if word:
            changes.append(Change(Kind.LABEL, f"{line.strip()} as [{word}]"))
            kept.append(f"[{word}]")
            continue
        if number in sheet or _TAB.match(line) or _DIRECTIVE.match(line):
            changes.append(Change(Kind.CHORDS, line.strip()))
            continue
        words = _INLINE.sub("", line) if inline else line
        if words != line:
            changes.append(Change(Kind.CHORDS, " ".join(found[0] for found in _INLINE.finditer(line))))
            if not words.strip():
                continue
        kept.append(words)
    return kept, changes


def _section_word(line: str) -> str:
    """The label that a directive of a chord sheet stands for; empty for other lines."""
    section = _SECTION.match(line)
    if not section:
        return ""
    written = section["comment"] or section["name"] or ""
    label = read_label(written.removeprefix("label=").strip(' "'))
    if section["comment"] is not None:
        return label.word.lower() if label and label.pure and label.strong else ""
    return label.word.lower() if label else _PARTS.get(section["part"], section["part"])


def _is_chord_row(line: str) -> bool:
    """Whether a line has at least two chords, or one that is no word, and nothing else."""
    tokens = line.split()
    chords = [token for token in tokens if re.fullmatch(rf"\(?{_CHORD}\)?", token)]
    return (
        bool(chords)
        and all(_TOKEN.fullmatch(token) for token in tokens)
        and (len(chords) > 1 or not re.fullmatch(r"[A-G]m?", chords[0]))
    )


def _bare(line: str) -> bool:
    """Whether a row of chords may be spelled letters: single letters with single spaces."""
    return "  " not in line.strip() and all(_PLAIN.fullmatch(token) for token in line.split())
