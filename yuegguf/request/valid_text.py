"""Check of text from file names and damaged files; apart, since every command begins with it."""

from __future__ import annotations


def is_valid_text(text: str) -> bool:
    """Whether a string is valid text: no zero character and no undecoded bytes."""
    return "\0" not in text and text.encode(errors="ignore").decode() == text
