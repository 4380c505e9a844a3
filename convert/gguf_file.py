"""GGUF version 3, read with every length checked and written block by block.

gguf's own reader makes an array per string (seconds for 84,000 pieces) and believes the lengths it
finds; its writer wants whole tensors. Layout: ggml, docs/gguf.md. Numbers are little-endian; a
tensor's dimensions are stored fastest first, here they are in numpy's order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, ModelNotFound

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
_T = GGUFValueType
NUMBERS: Mapping[GGUFValueType, str] = {
    _T.UINT8: "u1", _T.INT8: "i1", _T.UINT16: "<u2", _T.INT16: "<i2", _T.UINT32: "<u4", _T.INT32: "<i4",
    _T.FLOAT32: "<f4", _T.BOOL: "u1", _T.UINT64: "<u8", _T.INT64: "<i8", _T.FLOAT64: "<f8",
}  # fmt: skip
"""Numeric value types → numpy's names; BOOL is one byte."""


@dataclass(frozen=True)
class Value:
    """One metadata value."""

    kind: GGUFValueType
    """The type of the value, or of an array's elements."""
    data: Any
    """A number, bytes (a string's UTF-8), a list of bytes, or a numpy vector."""
    array: bool = False

    @property
    def text(self) -> str:
        """A string value."""
        return bytes(self.data).decode(errors="replace")

    @property
    def texts(self) -> list[str]:
        """A string array."""
        return [piece.decode(errors="replace") for piece in self.data]


@dataclass(frozen=True)
class Tensor:
    """Name, type and shape of a tensor."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int = 0
    """Bytes from the start of the data; the writer sets its own."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (the last dimension)."""
        per_block, block_bytes = GGML_QUANT_SIZES[self.kind]
        return self.shape[-1] // int(per_block) * int(block_bytes)

    @property
    def rows(self) -> int:
        """Rows; a vector is one row."""
        return prod(self.shape[:-1])

    @property
    def size(self) -> int:
        """Bytes."""
        return self.rows * self.row_bytes


@dataclass(frozen=True)
class GgufFile:
    """The head of a GGUF; the tensors' bytes stay on disk."""

    path: Path
    metadata: dict[str, Value]
    tensors: dict[str, Tensor]
    data_start: int

    def read(self, tensor: Tensor, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows [stop - start, row bytes] of a tensor, as stored. Raises DamagedFile."""
        count = (stop - start) * tensor.row_bytes
        try:
            with self.path.open("rb") as file:
                file.seek(self.data_start + tensor.offset + start * tensor.row_bytes)
                found = np.fromfile(file, np.uint8, count)
        except OSError as error:
            raise DamagedFile(f"{self.path.name} cannot be read: {error.strerror}") from error
        if found.size != count:
            raise _damaged(self.path.name, f"it ends inside {tensor.name}")
        return found.reshape(stop - start, tensor.row_bytes)


def text(value: str) -> Value:
    """A string value."""
    return Value(_T.STRING, value.encode())


def texts(values: Iterable[str]) -> Value:
    """An array of strings."""
    return Value(_T.STRING, [value.encode() for value in values], array=True)


def number(kind: GGUFValueType, value: float | bool) -> Value:
    """A number of the given type."""
    return Value(kind, value)


def numbers(kind: GGUFValueType, values: Sequence[float] | NDArray[Any]) -> Value:
    """An array of numbers of the given type."""
    return Value(kind, np.asarray(values, NUMBERS[kind]), array=True)


def read_gguf(path: Path) -> GgufFile:
    """Read the head of a GGUF. Raises ModelNotFound, or DamagedFile saying what does not fit."""
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}", "check the name")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _read(path, _Cursor(file, size, path.name), size)
    except OSError as error:
        raise DamagedFile(f"{path.name} cannot be read: {error.strerror}") from error


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value],
    tensors: Sequence[Tensor],
    blocks: Callable[[Tensor], Iterable[NDArray[np.uint8]]],
) -> None:
    """Write a GGUF; `blocks` yields each tensor's bytes in pieces. OSErrors pass through."""
    alignment = _alignment(metadata, path.name)
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
    plain = value.kind == _T.STRING
    if not value.array:
        data = _string(value.data) if plain else np.asarray(value.data, NUMBERS[value.kind]).tobytes()
        return struct.pack("<I", int(value.kind)) + data
    data = b"".join(map(_string, value.data)) if plain else value.data.tobytes()
    return struct.pack("<IIQ", int(_T.ARRAY), int(value.kind), len(value.data)) + data


class _Cursor:
    """A file read front to back, never past its end."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file, self.left, self.name = file, size, name

    def take(self, count: int) -> bytes:
        data = self.file.read(count) if count <= self.left else b""
        if len(data) != count:
            raise _damaged(self.name, "it ends inside its header")
        self.left -= count
        return data

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def string(self) -> bytes:
        return self.take(self.unpack("Q")[0])

    def value(self) -> Value:
        (kind,) = self.unpack("I")
        if kind != _T.ARRAY:
            return self.items(kind, 1, array=False)
        kind, count = self.unpack("IQ")
        return self.items(kind, count, array=True)

    def items(self, kind: int, count: int, array: bool) -> Value:
        if kind == _T.STRING:
            if count > self.left // 8:
                raise _damaged(self.name, f"it announces {count} strings")
            found = [self.string() for _ in range(count)]
            return Value(_T.STRING, found if array else found[0], array)
        if kind not in NUMBERS:
            raise _damaged(self.name, f"it holds a value of the unknown type {kind}")
        vector = np.dtype(NUMBERS[_T(kind)])
        values = np.frombuffer(self.take(count * vector.itemsize), vector)
        return Value(_T(kind), values if array else values[0].item(), array)

    def tensor(self) -> Tensor:
        name = self.string().decode(errors="replace")
        (n_dims,) = self.unpack("I")
        if not 1 <= n_dims <= 4:
            raise _damaged(self.name, f"tensor {name} has {n_dims} dimensions")
        *dims, kind, offset = self.unpack(f"{n_dims}QIQ")
        if kind not in GGMLQuantizationType.__members__.values():
            raise _damaged(self.name, f"tensor {name} has the unknown type {kind}")
        tensor = Tensor(name, GGMLQuantizationType(kind), tuple(reversed(dims)), offset)
        if not all(dims) or dims[0] % GGML_QUANT_SIZES[tensor.kind][0]:
            raise _damaged(self.name, f"tensor {name} has the impossible shape {tensor.shape}")
        return tensor


def _read(path: Path, cursor: _Cursor, size: int) -> GgufFile:
    if cursor.take(4) != MAGIC:
        raise DamagedFile(f"{path.name} is not a GGUF file", "pass a .gguf model")
    version, n_tensors, n_values = cursor.unpack("IQQ")
    if version not in (2, VERSION):
        raise _damaged(path.name, f"its version is {version}, not {VERSION}")
    metadata: dict[str, Value] = {}
    for _ in range(n_values):
        key = cursor.string().decode(errors="replace")
        metadata[key] = cursor.value()
    found = [cursor.tensor() for _ in range(n_tensors)]
    tensors = {tensor.name: tensor for tensor in found}
    if len(metadata) != n_values or len(tensors) != n_tensors:
        raise _damaged(path.name, "a name is given twice")
    alignment = _alignment(metadata, path.name)
    start = size - cursor.left
    start += -start % alignment
    end = 0
    for tensor in sorted(found, key=lambda tensor: tensor.offset):
        if tensor.offset < end or tensor.offset % alignment:
            raise _damaged(path.name, f"tensor {tensor.name} has the impossible offset {tensor.offset}")
        end = tensor.offset + tensor.size
        if start + end > size:
            raise _damaged(path.name, f"it ends before the end of tensor {tensor.name}")
    return GgufFile(path, metadata, tensors, start)


def _alignment(metadata: Mapping[str, Value], name: str) -> int:
    value = metadata.get("general.alignment", Value(_T.UINT32, ALIGNMENT))
    if value.kind != _T.UINT32 or value.array or value.data < 1 or value.data & (value.data - 1):
        raise _damaged(name, "its alignment is not a power of two")
    return int(value.data)


def _damaged(name: str, what: str) -> DamagedFile:
    return DamagedFile(f"{name} is damaged: {what}", "download or convert it again")
