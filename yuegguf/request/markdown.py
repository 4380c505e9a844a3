"""Markdown in lyrics, as chat programs write it: rules, code fences, escapes and emphasis."""

from __future__ import annotations

import re

from yuegguf.request.changes import Change, Kind

_RULE_SIGNS = frozenset("-*_=~—–─━")
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})\s*\w{0,20}\s*")
_ESCAPE = re.compile(r"\\([\[\]*_#])")
_STRONG_LABEL = re.compile(r"^\s*(\*{1,3}|_{1,3})(\[[^\[\]]+\]\s?[:：]?)\1(?=\s*\S)")
_STRONG = re.compile(r"(\*{2,3})([^*\s](?:[^*]*[^*\s])?)\1|(__)([^_\s](?:[^_]*[^_\s])?)__(?!\w)")
_EMPHASIS = re.compile(r"(?<![\w*])(\*)([^*\s](?:[^*]*[^*\s])?)\*(?![\w*])")


def without_rules(lines: list[str]) -> tuple[list[str], list[Change]]:
    """Lines with blank ones for rules and code fences, and without escapes and the stars around labels."""
    changes: list[Change] = []
    kept: list[str] = []
    for line in lines:
        if _is_rule(line) or _FENCE.fullmatch(line):
            changes.append(Change(Kind.MARKDOWN, line.strip()))
            kept.append("")
            continue
        plain = _ESCAPE.sub(r"\1", line)
        changes += [Change(Kind.MARKDOWN, found[0]) for found in _ESCAPE.finditer(line)]
        label = _STRONG_LABEL.match(plain)
        if label:
            changes.append(Change(Kind.MARKDOWN, label[1]))
            plain = label[2] + plain[label.end() :]
        kept.append(plain)
    return kept, changes


def is_markdown(lines: list[str]) -> bool:
    """Whether some line is a rule or a fence, or has strong emphasis."""
    return any(_is_rule(line) or _FENCE.fullmatch(line) or _STRONG.search(line) for line in lines)


def without_emphasis(line: str, singles: bool) -> tuple[str, list[Change]]:
    """A line without the signs of strong emphasis, and with `singles` those of `*emphasis*`; no word goes."""
    changes = []
    for pattern in (_STRONG, _EMPHASIS) if singles else (_STRONG,):
        found = [match[1] or match[3] for match in pattern.finditer(line)]
        changes += [Change(Kind.MARKDOWN, sign) for sign in found]
        line = pattern.sub(_inner, line) if found else line
    return line, changes


def _inner(match: re.Match[str]) -> str:
    """The text between the signs of emphasis."""
    return str(match[2] if match[1] else match[4])


def _is_rule(line: str) -> bool:
    """Whether a line is three or more of one sign that draws a rule."""
    signs = "".join(line.split())
    return len(signs) > 2 and len({*signs}) == 1 and signs[0] in _RULE_SIGNS
