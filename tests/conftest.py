"""Where the golden data lie, and the seeded checkpoints that belong to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""The folder of golden data beside the checkout; tests that need it skip where it is not."""


def shared_path(relative: str) -> Path:
    """A file of the golden data; skips the test with a reason where it is missing."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"golden data not on this machine: shared/{relative}")
    return path


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """`golden("stage2.npz")` → that file of shared/reference/golden."""
    return lambda name: shared_path(f"reference/golden/{name}")


@pytest.fixture(scope="session")
def reference_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`reference_checkpoint("stage1")` → the folder of seeded weights in the published layout.

    Each set of make_ckpt.py is generated once a session. YUEGGUF_REFERENCE_CKPT names a folder
    that already holds them all (they are bit-exact on any machine).
    """
    ready = os.environ.get("YUEGGUF_REFERENCE_CKPT")
    root = Path(ready) if ready else tmp_path_factory.mktemp("reference")
    sets = {"stage1_sharded": "stage1", "xcodec_micro": "micro", "vocos_micro": "micro"}
    made: set[str] = set()

    def folder(name: str) -> Path:
        script = shared_path("reference/make_ckpt.py")
        only = sets.get(name, name)
        if not ready and only not in made:
            command = [sys.executable, str(script), "--out", str(root), "--only", only]
            subprocess.run(command, check=True, capture_output=True)
            made.add(only)
        return root / name

    return folder


@pytest.fixture(scope="session")
def reference_gguf(
    reference_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """`reference_gguf("stage1", "F32", trim=False)` → that checkpoint converted, once a session."""
    from yuegguf_convert.lm import convert_lm

    root, made = tmp_path_factory.mktemp("gguf"), {}

    def convert(name: str, out_type: str = "F32", trim: bool = True) -> Path:
        key = f"{name}-{out_type}-{'trimmed' if trim else 'full'}.gguf"
        if key not in made:
            made[key] = convert_lm(reference_checkpoint(name), root / key, out_type=out_type, trim=trim)
        return made[key]

    return convert
