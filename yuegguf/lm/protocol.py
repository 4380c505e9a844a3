"""Interface of the language-model engine: ids in, logits out; nothing about music."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_BATCH = 128
"""Maximum ids per llama.cpp batch. A prompt is decoded hardly faster in larger ones, but attention scores
take heads · context · batch · 4 bytes: 0.27 GiB here, 1.1 GiB at llama.cpp's own 512."""


class SequenceInput(NamedTuple):
    """New ids of one sequence, which has a KV cache of its own; a tuple, since each code makes some."""

    seq: int
    """llama.cpp's sequence id, 0 … n_rows-1."""
    ids: Sequence[int]
    """Ids to append, at least one."""
    n_logits: int = 1
    """Number of the last ids whose logits are needed; 0 = none."""


class TokenEngine(Protocol):
    """A loaded causal language model with `n_rows` independent sequences of at most `n_ctx` ids each."""

    pieces: Sequence[str]
    """Piece text of every id, in id order: the only source of ids in this project."""
    metadata: Mapping[str, str]
    """Scalar metadata of the model file, as text."""
    n_ctx: int
    n_rows: int
    n_batch: int
    """Maximum ids computed at once; longer inputs go `in_blocks` of so many."""
    busy: float
    """Seconds spent computing so far; the rest of a loop's time is spent outside the engine."""

    def decode(self, inputs: Sequence[SequenceInput]) -> NDArray[np.float32]:
        """Append ids to some sequences → logits [sum of n_logits, n_vocab], in the order given.

        They are a view, valid until the next call. Raises EngineError, or Interrupted when stopped in a
        long prompt.
        """
        ...

    def forget(self, seq: int, keep: int) -> None:
        """Drop the sequence's cache from position `keep` on; 0 empties it."""
        ...

    def copy(self, src: int, dst: int) -> None:
        """Replace the cache of sequence `dst` by that of `src` (a shared, already decoded prompt)."""
        ...

    def save(self, seq: int, path: Path) -> None:
        """Write the sequence's cache to a file, bit for bit."""
        ...

    def load(self, seq: int, path: Path) -> None:
        """Replace the sequence's cache by a file that `save` wrote. Raises DamagedFile, StorageError."""
        ...

    def resize(self, n_rows: int, n_ctx: int) -> None:
        """Change the number of sequences and their length; what the first of them hold stays, bit for bit.

        Raises EngineError where there is no memory for it; nothing is changed then, but an engine that cannot
        get back what it had is closed.
        """
        ...

    def close(self) -> None:
        """Free the model. The engine cannot be used afterwards."""
        ...


def in_blocks(inputs: Sequence[SequenceInput], size: int) -> list[list[SequenceInput]]:
    """Split inputs of one decode into batches of at most `size` ids; the last one gives all logits.

    The split depends on the numbers of ids alone, so the same calls give the same bits.
    """
    if sum([len(each.ids) for each in inputs]) <= size:
        return [list(inputs)]
    blocks, last = [], []
    for each in inputs:
        end = len(each.ids) - max(1, each.n_logits)
        for start in range(0, end, size):
            blocks.append([SequenceInput(each.seq, each.ids[start : min(start + size, end)], n_logits=0)])
        last.append(SequenceInput(each.seq, each.ids[end:], each.n_logits))
    return [*blocks, last]
