"""Tensors on their way from safetensors files to a GGUF, streamed in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.progress import Event, Progress

from .dtypes import encode
from .gguf_file import Tensor, Value, read_gguf, write_gguf
from .safetensors import StoredTensor
from .target import partial_file

BLOCK_VALUES = 4 << 20
"""Values converted at once; the largest temporary is a few float32 copies of them."""


@dataclass(frozen=True)
class TensorCopy:
    """One tensor on its way from the checkpoint to the GGUF."""

    stored: StoredTensor
    target: Tensor
    order: NDArray[np.int64] | None
    """The stored row of each target row; None keeps all in place."""
    unit: int
    """Rows that a block must not part: a head of a rotated tensor."""


class RowQuantizer(Protocol):
    """Rows → blocks of a tensor's type; `name` is that of what is read."""

    def __call__(self, values: NDArray[np.float32], tensor: Tensor, name: str) -> NDArray[np.uint8]:
        """Values [rows, columns] → bytes [rows, row bytes]."""
        ...


def write_tensors(
    out: Path,
    metadata: dict[str, Value],
    parts: list[TensorCopy],
    overwrite: bool,
    progress: Progress,
    coder: RowQuantizer | None = None,
) -> None:
    """Write a GGUF of `parts`, whole or not at all; progress counts bytes read.

    `coder` takes the place of our own coding into blocks. Raises DamagedFile, RequestError for values that
    a type cannot hold, StorageError.
    """
    by_name = {part.target.name: part for part in parts}
    total, done = sum(part.stored.size for part in parts), 0

    def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        nonlocal done
        part, name = by_name[tensor.name], by_name[tensor.name].stored.name
        coded = None if coder is None else partial(coder, tensor=tensor, name=name)
        for raw, read in _rows(part):
            yield encode(raw, part.stored.dtype, tensor.kind, name, coded)
            done += read
            progress(Event("convert", done, total, tensor.name))

    with partial_file(out, overwrite) as file:
        write_gguf(file, metadata, [part.target for part in parts], blocks)
        read_gguf(file)


def _rows(part: TensorCopy) -> Iterator[tuple[NDArray[Any], int]]:
    """Blocks of rows in the target's order, with the bytes read for each."""
    shape = part.stored.shape
    rows = 1 if len(shape) == 1 else shape[0]
    step = max(part.unit, BLOCK_VALUES // shape[-1] // part.unit * part.unit)
    for start in range(0, rows, step):
        raw = part.stored.rows(start, min(start + step, rows))
        size = raw.nbytes
        if part.order is not None:
            raw = raw[part.order[(part.order >= start) & (part.order < start + step)] - start]
        yield raw, size
