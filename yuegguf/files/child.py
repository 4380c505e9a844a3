"""Modules of this package in processes of their own, which find the same files and no current folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def module_command(module: str, *words: str) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-P", "-m", module, *words]


def child_environment(*before: Path) -> dict[str, str]:
    """Variables with which a process finds the packages in the folders `before`, then what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, before), *filter(None, sys.path)])}
