"""`#length` lines, also as people misspell them."""

from __future__ import annotations

import re

_LENGTH = re.compile(
    r"\s*#\s*length(?![^\W\d_])[\s:：=]*(?:(?P<minutes>\d{1,3}):)?(?P<seconds>\d+(?:[.,]\d+)?)"
    r"\s*(?:s|secs?|seconds?)?\s*",
    re.IGNORECASE,
)
_BEGINNING = re.compile(r"\s*#length(?![^\W\d_])", re.IGNORECASE)


def read_length(line: str) -> float | None:
    """Seconds of a `#length 20`, `#length: 20 s` or `#length 0:20` line; None for other lines."""
    match = _LENGTH.fullmatch(line)
    if not match:
        return None
    return 60 * int(match["minutes"] or 0) + float(match["seconds"].replace(",", "."))


def is_length(line: str) -> bool:
    """Whether a line begins as a `#length` line does, with or without a number of seconds."""
    return bool(_BEGINNING.match(line))
