"""JSON objects in the files of a checkpoint, and their values in messages."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from typing import Any

MAX_JSON_BYTES = 16 << 20
"""Bytes of a config or an index that is read; YuE's have less than 100 KB."""
MAX_NUMBER = 2**63
"""Above every number that a config holds; JSON's own integers have no end."""


def read_object(data: bytes) -> dict[str, Any]:
    """An object in which no name is given twice. Raises ValueError saying what is wrong."""
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def shorten(value: Any) -> str:
    """A value of a file for a message, shortened."""
    return reprlib.repr(value)


def first_names(names: Sequence[str], most: int = 8) -> str:
    """The first of some names for a message, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)
