"""Text for terminals: harmless characters, one line, durations in words."""

from __future__ import annotations

import re

UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters by which the name of a file or a song could move the cursor, hide text or reverse it."""


def harmless(text: str) -> str:
    """Text whose control characters but newlines and tabs are escaped as in JSON; JSON stays the same."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str) -> str:
    """Harmless text with its newlines escaped too, so that nothing passes for a line of ours."""
    return harmless(text).replace("\n", "\\u000a")


def minutes(seconds: float) -> str:
    """A duration in words: "8 s", "12 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole // 60} h {whole % 60} min" if whole >= 60 else f"{whole} min"
