"""Copies tensors from safetensors files to a GGUF, streamed in blocks of rows."""

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
"""Values converted at a time; temporaries are a few float32 copies of them."""


@dataclass(frozen=True)
class TensorCopy:
    """Copy of one tensor from the checkpoint to the GGUF."""

    stored: StoredTensor
    target: Tensor
    order: NDArray[np.int64] | None
    """Stored row of each target row; None keeps the order."""
    unit: int
    """Rows that a block must not split: a head of a reordered tensor."""


class RowQuantizer(Protocol):
    """Encoder of rows into blocks of a tensor's type; `name` is the stored tensor's, for messages."""

    def __call__(self, values: NDArray[np.float32], tensor: Tensor, name: str) -> NDArray[np.uint8]:
        """Values [rows, columns] → bytes [rows, row bytes]."""
        ...


def write_tensors(
    out: Path,
    metadata: dict[str, Value],
    copies: list[TensorCopy],
    *,
    overwrite: bool,
    progress: Progress,
    coder: RowQuantizer | None = None,
) -> None:
    """Write a GGUF of `copies`, whole or not at all; progress counts bytes read.

    `coder` replaces the built-in encoding into blocks. Raises DamagedFile, RequestError for values that
    a type cannot hold, StorageError.
    """
    by_name = {copy.target.name: copy for copy in copies}
    total, done = sum(copy.stored.size for copy in copies), 0

    def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        nonlocal done
        copy, name = by_name[tensor.name], by_name[tensor.name].stored.name
        encode_rows = None if coder is None else partial(coder, tensor=tensor, name=name)
        for raw, read in _rows(copy):
            yield encode(raw, copy.stored.dtype, tensor.kind, name, encode_rows)
            done += read
            progress(Event("convert", done, total, tensor.name))

    with partial_file(out, overwrite) as file:
        write_gguf(file, metadata, [copy.target for copy in copies], blocks)
        read_gguf(file)


def _rows(copy: TensorCopy) -> Iterator[tuple[NDArray[Any], int]]:
    """Blocks of rows in the target's order, with the bytes read for each."""
    copy.stored.check()
    shape = copy.stored.shape
    rows = 1 if len(shape) == 1 else shape[0]
    step = max(copy.unit, BLOCK_VALUES // shape[-1] // copy.unit * copy.unit)
    for start in range(0, rows, step):
        raw = copy.stored.rows(start, min(start + step, rows))
        size = raw.nbytes
        if copy.order is not None:
            raw = raw[copy.order[(copy.order >= start) & (copy.order < start + step)] - start]
        yield raw, size
