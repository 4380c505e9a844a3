"""Range checks of numbers in a request, a command or a file."""

from __future__ import annotations

from math import nan

from yuegguf.errors import RequestError

MIN_SECTION_SECONDS, MAX_SECTION_SECONDS = 1, 150
"""Seconds that a section may be asked to have."""
MOST_TAKES = 16
"""Takes of a song at once."""
MAX_SECONDS = 86_400.0
"""Longest recording or pause that a request may name."""


def check_number(name: str, value: object, low: float, high: float, *, zero: bool = False) -> None:
    """Raise RequestError unless `value` is a number from `low` to `high`, or 0 if `zero`."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else nan
    if not (low <= number <= high or (zero and number == 0)):
        raise _out_of_range(name, value, f"{'0, or ' if zero else ''}{low:g} to {high:g}")


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """Raise RequestError unless `value` is an integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _out_of_range(name, value, f"{low} to {high}")


def _out_of_range(name: str, value: object, allowed: str) -> RequestError:
    try:
        shown = str(value)[:40]
    except ValueError:  # Python writes no number of more than 4,300 digits
        shown = "of thousands of digits"
    return RequestError(f"{name} {shown} is out of range", f"use {allowed}")
