"""Random choices that are the same on every machine: integers of the raw PCG64 stream, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draws:
    """A stream of choices; the same key gives the same stream under any numpy version."""

    def __init__(self, *key: int) -> None:
        # the raw stream is what numpy promises to keep; the methods of Generator may change
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def below(self, count: int) -> int:
        """An integer of 0 … count - 1."""
        return int(self._bits.random_raw()) % count

    def choice(self, items: Sequence[T]) -> T:
        """An item, all equally likely."""
        return items[self.below(len(items))]

    def chance(self, percent: int) -> bool:
        """True in that many of a hundred cases."""
        return self.below(100) < percent

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All items in a random order (Fisher and Yates)."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out
