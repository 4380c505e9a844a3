"""Elements of lyrics, and the changes that follow from their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from yuegguf.request.changes import Change, Kind
from yuegguf.request.marks import is_direction_line
from yuegguf.request.repeats import repeats_of

_GROUP = re.compile(r"^\W{0,4}第?\s?(?:\d{1,2}|[一二三四五六七八九十])\s*(?:番|절|節|节|段)\W{0,4}$")
"""Heads such as `[1番]` that may stand above the heads of their parts."""


@dataclass(frozen=True)
class Head:
    """The line that opens a section."""

    label: str
    times: int = 1
    again: bool = False
    """Whether an earlier section of this label stands in for missing words."""
    written: str = ""
    """The line as written, with its repeat mark."""


@dataclass(frozen=True)
class Length:
    """A `#length` line."""

    seconds: float


Element = Head | Length | str
"""Element of a line; a string is words, or a blank line."""


def with_repeats(elements: Sequence[Element], changes: list[Change]) -> list[Element]:
    """Elements whose heads take up a line below that repeats an earlier section, if no words follow."""
    out = list(elements)
    filled = [at for at, element in enumerate(elements) if not isinstance(element, str) or element.strip()]
    for at, here, below in zip(filled, filled[1:], [*filled[2:], len(out)], strict=False):
        head, line = out[at], out[here]
        times = repeats_of(line, head.label) if isinstance(head, Head) and isinstance(line, str) else 0
        if not times or not isinstance(head, Head) or not isinstance(line, str):
            continue
        if below == len(out) or not isinstance(out[below], str):
            written = f"{head.written} {line.strip()}"
            out[at] = replace(head, times=max(head.times, times), again=True, written=written)
            changes.append(Change(Kind.LABEL, f"{written} as [{head.label}]"))
        elif is_direction_line(line):
            changes.append(Change(Kind.DIRECTION, line.strip()))
        else:
            continue  # it repeats the words below it
        out[here] = ""
    return out


def without_groups(elements: Sequence[Element], changes: list[Change]) -> list[Element]:
    """Elements without the heads that only number the heads right below them, which `changes` then says."""
    filled = [element for element in elements if not isinstance(element, str) or element.strip()]
    groups = [
        head
        for head, below in pairwise(filled)
        if isinstance(head, Head) and isinstance(below, Head) and _GROUP.match(head.written)
    ]
    for group in groups:
        changes.remove(Change(Kind.LABEL, f"{group.written} as [{group.label}]"))
        changes.append(Change(Kind.DIRECTION, group.written))
    return [element for element in elements if not any(element is group for group in groups)]


def lengths_above(elements: list[Element]) -> list[Element]:
    """Elements with each length right below a label moved above it, if one so placed has words below it."""
    out: list[Element] = []
    is_below = False
    for element, following in pairwise([*elements, Head("")]):
        if isinstance(element, Length) and out and isinstance(out[-1], Head):
            is_below = is_below or (isinstance(following, str) and bool(following.strip()))
            out.insert(-1, element)
        else:
            out.append(element)
    return out if is_below else elements
