"""The command line that the four steps share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Protocol


class Step(Protocol):
    """One of the four."""

    def __call__(self, folder: Path, steps: int, device: str, fast: bool) -> None:
        """Train to that step, with everything in FOLDER."""


def run(step: Step, text: str | None, steps: int) -> None:
    """Parse FOLDER, --steps, --device and --no-compile, and train."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for states, logs and checkpoints")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true", help="where torch.compile has no C++ compiler")
    options = parser.parse_args()
    step(options.folder, options.steps, options.device, not options.no_compile)
