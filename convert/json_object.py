"""JSON objects in the files of a checkpoint, and their values in messages."""

from __future__ import annotations

import json
import reprlib
from typing import Any

MAX_JSON_BYTES = 16 << 20
"""Maximum bytes of a config or an index; YuE's have less than 100 KB."""
MAX_NUMBER = 2**63
"""Upper bound of a number in a config; JSON's integers are unbounded."""


def read_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object without duplicate names. Raises ValueError with the reason."""
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def shorten(value: Any) -> str:
    """A value for a message, shortened."""
    return reprlib.repr(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)
