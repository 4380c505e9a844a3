"""Golden data that lies beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared_path(relative: str) -> Path:
    """A file of the golden data; skips the test with a reason where it is missing."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"golden data not on this machine: shared/{relative}")
    return path
