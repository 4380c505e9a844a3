"""The seam to the language-model engine: ids in, logits out. It knows nothing of music."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAX_BATCH = 128
"""Most ids computed at once. A prompt is read hardly faster in larger blocks, but the scores of
attention take heads · context · block · 4 bytes: 0.27 GiB here, 1.1 GiB at llama.cpp's own 512."""


@dataclass(frozen=True)
class SequenceInput:
    """Ids to append to one row (an independent sequence with a cache of its own)."""

    row: int
    """The row's number, 0 … n_rows-1."""
    ids: Sequence[int]
    """Ids to append, at least one."""
    wanted: int = 1
    """After how many of these ids, counted from the last, the logits are needed."""


class TokenEngine(Protocol):
    """A loaded causal language model with `n_rows` independent rows of at most `n_ctx` ids each."""

    pieces: Sequence[str]
    """The piece text of every id, in id order: the only source of ids in this project."""
    metadata: Mapping[str, str]
    """The scalar metadata of the model file, as text."""
    n_ctx: int
    n_rows: int
    busy: float
    """Seconds spent computing so far: what is left of a loop's time is the loop's own."""

    def decode(self, rows: Sequence[SequenceInput]) -> NDArray[np.float32]:
        """Append ids to some rows.

        Returns the logits [wanted, n_vocab] after the ids that want them, in the order given: a view,
        valid until the next call. Raises EngineError, or Interrupted when stopped in a long prompt.
        """
        ...

    def forget(self, row: int, keep: int) -> None:
        """Drop the row's cache from position `keep` on; 0 empties the row."""
        ...

    def copy(self, src: int, dst: int) -> None:
        """Make row `dst` hold what row `src` holds (a shared, already computed prompt)."""
        ...

    def save(self, row: int, path: Path) -> None:
        """Write the row's cache to a file, bit for bit."""
        ...

    def load(self, row: int, path: Path) -> None:
        """Replace the row's cache by a file that `save` wrote. Raises DamagedFile."""
        ...

    def close(self) -> None:
        """Free the model. The engine cannot be used afterwards."""
        ...
