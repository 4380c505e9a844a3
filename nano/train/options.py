"""The command line that all parts share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Protocol


class Step(Protocol):
    """A part of the family to train."""

    def __call__(self, folder: Path, steps: int, device: str, fast: bool) -> None:
        """Train to that step, with everything in FOLDER."""


def share(text: str) -> float:
    """A share of the whole work, above 0 and at most 1. Raises ValueError."""
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError
    return value


def run(step: Step, text: str | None, steps: int) -> None:
    """Parse FOLDER, --share, --device and --no-compile, and train that share of the steps."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for states, logs and checkpoints")
    parser.add_argument("--share", type=share, default=1.0, help=f"of {steps} steps")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true", help="where torch.compile has no C++ compiler")
    options = parser.parse_args()
    step(options.folder, math.ceil(options.share * steps), options.device, not options.no_compile)
