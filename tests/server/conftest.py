"""A browser, and a server with cheap engines for it, for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Server, chromium, serving
from cheap import PACE


@pytest.fixture
def pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with which `slowed` slows cheap engines, also those of processes that the test starts."""
    monkeypatch.setenv(PACE, str(tmp_path / "pace"))
    return tmp_path / "pace"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in a process of its own; a file whose server is another one has a fixture of its own."""
    with serving(tmp_path_factory.mktemp("served") / "songs") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; skips the test with a reason where there is none."""
    with chromium() as found:
        yield found
