"""Models split into parts as `llama-gguf-split` writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from yuegguf_convert.gguf_file import GgufFile, Tensor, Value, ValueType, number, read_gguf, write_gguf

Change = Callable[[list[dict[str, Value]], list[list[Tensor]]], object]


def split_model(
    source: Path, folder: Path, stem: str, count: int = 2, change: Change = lambda metadata, tensors: None
) -> list[Path]:
    """The parts of a model; `change` may change metadata and tensors of the parts before they are written."""
    whole = read_gguf(source)
    every, total = list(whole.tensors.values()), len(whole.tensors)
    tensors = [every[i * total // count : (i + 1) * total // count] for i in range(count)]
    metadata = [{**(whole.metadata if i == 0 else {}), **_split_keys(i, count, total)} for i in range(count)]
    change(metadata, tensors)
    paths = [folder / f"{stem}-{i + 1:05d}-of-{count:05d}.gguf" for i in range(count)]
    for path, values, part in zip(paths, metadata, tensors, strict=True):
        write_gguf(path, values, part, lambda tensor: [_bytes(whole, tensor)])
    return paths


def _split_keys(number_of: int, count: int, tensors: int) -> dict[str, Value]:
    return {
        "split.no": number(ValueType.UINT16, number_of),
        "split.count": number(ValueType.UINT16, count),
        "split.tensors.count": number(ValueType.INT32, tensors),
    }


def _bytes(whole: GgufFile, tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(whole.read(whole.tensors[tensor.name], 0, tensor.rows))
