"""Helpers of the tests of `pull`."""

from __future__ import annotations

from pathlib import Path

from helpers import Capture, Result, cli

EN = "m-a-p/YuE-s1-7B-anneal-en-cot"
THEIRS = "QuantFactory/YuE-s1-7B-anneal-en-cot-GGUF"


def pull(capsys: Capture, root: Path, *args: object) -> Result:
    return cli(capsys, "--models-dir", root, "pull", *args)


def files(root: Path) -> list[str]:
    """Everything in the folder of models but the lock of a running pull."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in found if name != ".pull.lock")
