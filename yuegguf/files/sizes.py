"""Sizes of files in messages."""

from __future__ import annotations


def size_text(count: int) -> str:
    """Bytes for people: "12.4 GB", "0.3 MB", "120 bytes"."""
    if count >= 1e8:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"
