"""Checks of texts, from file names and damaged files too; apart, since every command begins with them."""

from __future__ import annotations

from yuegguf.errors import RequestError

MAX_LYRICS_CHARS = 100_000
"""Characters of lyrics: more than any model's context holds."""
MAX_LYRICS_BYTES = 4 * MAX_LYRICS_CHARS + 4
"""Bytes of a text of so many characters in any encoding that is read, with a byte-order mark."""


def is_valid_text(text: str) -> bool:
    """Whether a string is valid text: no zero character and no undecoded bytes."""
    return "\0" not in text and text.encode(errors="ignore").decode() == text


def check_text_length(text: str, most: int, name: str) -> None:
    """Raise RequestError for a text of more than `most` characters."""
    if len(text) > most:
        raise RequestError(f"{name} have {len(text):,} characters", f"use at most {most:,}")
