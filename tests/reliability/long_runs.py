"""The command line and the report of the long runs."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tried:
    """Number of tries, and their outcomes."""

    ends: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def arguments(description: str | None) -> argparse.Namespace:
    """The options of a long run: seconds, seed, only."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="NAME")
    return parser.parse_args()


def report(found: dict[str, Tried]) -> int:
    """Print a line for each thing that was done; returns the exit code, 1 where a promise was broken."""
    for name, tried in sorted(found.items()):
        ends = ", ".join(f"{count} {end}" for end, count in tried.ends.most_common())
        print(f"{name:<22}{sum(tried.ends.values()) + len(tried.broken):>5}  {ends}")
    broken = sum(len(tried.broken) for tried in found.values())
    print(f"{broken} promises broken")
    return 1 if broken else 0
