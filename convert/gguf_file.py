"""Writer of GGUF version 3, block by block; gguf's own writer needs whole tensors. Reader: lm.gguf_header."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.lm.gguf_header import (
    MAGIC,
    NUMBERS,
    VERSION,
    GgufFile,
    Tensor,
    TensorType,
    Value,
    ValueType,
    read_alignment,
    read_gguf,
)

__all__ = (
    "GgufFile",
    "Tensor",
    "TensorType",
    "Value",
    "ValueType",
    "number",
    "numbers",
    "read_gguf",
    "text",
    "texts",
    "write_gguf",
)


def text(value: str) -> Value:
    """A string value."""
    return Value(ValueType.STRING, value.encode())


def texts(values: Iterable[str]) -> Value:
    """An array of strings."""
    return Value(ValueType.STRING, [value.encode() for value in values], array=True)


def number(kind: ValueType, value: float | bool) -> Value:
    """A number of the given type."""
    return Value(kind, value)


def numbers(kind: ValueType, values: Sequence[float] | NDArray[Any]) -> Value:
    """An array of numbers of the given type."""
    return Value(kind, np.asarray(values, NUMBERS[kind]), array=True)


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value],
    tensors: Sequence[Tensor],
    blocks: Callable[[Tensor], Iterable[NDArray[np.uint8]]],
) -> None:
    """Write a GGUF; `blocks` yields each tensor's bytes in pieces. OSErrors pass through."""
    alignment = read_alignment(metadata, path.name)
    with path.open("wb") as file:
        file.write(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata)))
        for key, value in metadata.items():
            file.write(_string(key.encode()) + _value(value))
        offset = 0
        for tensor in tensors:
            dims = tensor.shape[::-1]
            file.write(_string(tensor.name.encode()))
            file.write(struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, int(tensor.kind), offset))
            offset += tensor.size + -tensor.size % alignment
        file.write(bytes(-file.tell() % alignment))
        for tensor in tensors:
            start = file.tell()
            for block in blocks(tensor):
                file.write(block.data)
            if file.tell() - start != tensor.size:
                raise ValueError(f"{tensor.name}: {file.tell() - start} bytes instead of {tensor.size}")
            file.write(bytes(-file.tell() % alignment))


def _string(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    plain = value.kind == ValueType.STRING
    if not value.array:
        data = _string(value.data) if plain else np.asarray(value.data, NUMBERS[value.kind]).tobytes()
        return struct.pack("<I", int(value.kind)) + data
    data = b"".join(map(_string, value.data)) if plain else value.data.tobytes()
    return struct.pack("<IIQ", int(ValueType.ARRAY), int(value.kind), len(value.data)) + data
