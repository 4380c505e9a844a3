"""Heads that are abbreviations: `V1:`, `(C)`, `[PC]`."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHORT_WORDS = {
    **{"v": "verse", "vs": "verse", "c": "chorus", "ch": "chorus", "chor": "chorus"},
    **{"pc": "prechorus", "b": "bridge", "br": "bridge"},
}
"""Abbreviations of labels, which are read as such only in a text that `is_abbreviated`."""
SHORT_HEAD = re.compile(
    rf"(?P<head>[\[({{*]{{0,3}} ?(?P<word>{'|'.join(SHORT_WORDS)})(?![^\W\d_])"
    r" ?(?P<number>\d{0,2}) ?(?P<signs>[\])}*:：.]{0,4}))(?P<words>.*)$",
    re.IGNORECASE,
)
"""Bounded before the words, so that no line takes long."""


def short_head(line: str) -> re.Match[str] | None:
    """An abbreviated head: alone on its line, or with a number and a sign before words."""
    short = SHORT_HEAD.match(line.strip())
    is_head = short and (not short["words"].strip() or (short["number"] and short["signs"]))
    return short if is_head else None


def is_abbreviated(lines: Sequence[str]) -> bool:
    """Whether a numbered verse, or a verse and a chorus, are abbreviated: a lone V may be a singer."""
    heads = [short for line in lines if (short := short_head(line)) and (short["number"] or short["signs"])]
    verses = [short for short in heads if SHORT_WORDS[short["word"].lower()] == "verse"]
    return any(short["number"] for short in verses) or (
        bool(verses) and any(SHORT_WORDS[short["word"].lower()] == "chorus" for short in heads)
    )
