"""Options that are a text, a file of one, or stdin."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path

from yuegguf.errors import RequestError
from yuegguf.files.reading import open_plain_file_or_pipe
from yuegguf.request.lyrics import MAX_LYRICS_CHARS

MOST_BYTES = 4 * MAX_LYRICS_CHARS + 3
"""A text of the most characters takes no more in UTF-8, with a byte-order mark."""


def read_text(value: str, what: str) -> str:
    """Text of an option that is a file name or "-" for stdin. Raises RequestError."""
    try:
        with open_plain_file_or_pipe(Path(value)) if value != "-" else nullcontext(sys.stdin.buffer) as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"the {what} file {value} cannot be read ({reason})", "check the name") from error
    if len(data) > MOST_BYTES:
        raise RequestError(
            f"the {what} file {value} is too large", f"use at most {MAX_LYRICS_CHARS:,} characters"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{value} is not UTF-8 text", f"save the {what} as UTF-8") from error


def text_or_file(value: str, what: str) -> str:
    """An option that is text itself, a file's name, or "-"."""
    if value == "-" or os.path.isfile(value):  # unlike Path.is_file, never raises
        return read_text(value, what)
    return value
