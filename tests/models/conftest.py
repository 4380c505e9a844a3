"""A folder of models and a file outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from models_folder import file_elsewhere, two_models


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of two installed models."""
    return two_models(tmp_path)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file elsewhere that no command may change."""
    return file_elsewhere(tmp_path)
