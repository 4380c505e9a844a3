"""The nodes for ComfyUI, loaded on a stand-in of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_stand_in import Pack, loaded_pack


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pack]:
    """The nodes, with tmp_path as ComfyUI's folder."""
    for name in ("YUEGGUF_SERVER", "YUEGGUF_SERVER_KEY", "YUEGGUF_COMFY_SONGS"):
        monkeypatch.delenv(name, raising=False)
    with loaded_pack(tmp_path) as found:
        yield found
