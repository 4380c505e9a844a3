"""Header of a GGUF file, read with every count, length and offset checked before it is used.

gguf's reader makes an array per string (seconds for 84,000 pieces) and trusts the lengths in the file;
llama.cpp ends the whole process over some of them. Layout: ggml, docs/gguf.md. Numbers are little-endian;
a tensor's dimensions are stored fastest first, here they are in numpy's order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from pathlib import Path
from struct import calcsize, unpack
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.kinds import explain_absence, explain_damage
from yuegguf.files.reading import unreadable

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
MAX_HEADER = 128 << 20
"""Maximum bytes of a header; YuE's takes under 6 MiB, the tokenizer included."""
MAX_VALUES, MAX_TENSORS, MAX_STRINGS = 4096, 1 << 14, 1 << 20
"""Maximum metadata values, tensors and array strings of a file."""
MAX_KEY, MAX_NAME = 256, 63
"""Maximum bytes of a key, and of a tensor's name (ggml's GGML_MAX_NAME less its final 0)."""
READ_BYTES = 1 << 20
"""Bytes read at a time."""


class ValueType(IntEnum):
    """Type of a metadata value (gguf_type)."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_T = ValueType
NUMBERS: Mapping[ValueType, str] = {
    _T.UINT8: "u1", _T.INT8: "i1", _T.UINT16: "<u2", _T.INT16: "<i2", _T.UINT32: "<u4", _T.INT32: "<i4",
    _T.FLOAT32: "<f4", _T.BOOL: "u1", _T.UINT64: "<u8", _T.INT64: "<i8", _T.FLOAT64: "<f8",
}  # fmt: skip
"""Numeric value types → numpy dtypes; BOOL is one byte, 0 or 1."""


class TensorType(IntEnum):
    """Type of a weight (ggml_type)."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39


_Q = TensorType
BLOCK_SIZES: Mapping[TensorType, tuple[int, int]] = {
    _Q.F32: (1, 4), _Q.F16: (1, 2), _Q.BF16: (1, 2),
    _Q.Q4_0: (32, 18), _Q.Q4_1: (32, 20), _Q.Q5_0: (32, 22), _Q.Q5_1: (32, 24), _Q.Q8_0: (32, 34),
    _Q.Q2_K: (256, 84), _Q.Q3_K: (256, 110), _Q.Q4_K: (256, 144), _Q.Q5_K: (256, 176), _Q.Q6_K: (256, 210),
    _Q.IQ1_S: (256, 50), _Q.IQ1_M: (256, 56), _Q.IQ2_XXS: (256, 66), _Q.IQ2_XS: (256, 74),
    _Q.IQ2_S: (256, 82), _Q.IQ3_XXS: (256, 98), _Q.IQ3_S: (256, 110), _Q.IQ4_NL: (32, 18),
    _Q.IQ4_XS: (256, 136), _Q.TQ1_0: (256, 54), _Q.TQ2_0: (256, 66), _Q.MXFP4: (32, 17),
}  # fmt: skip
"""Type → values in a block, and its bytes."""


@dataclass(frozen=True)
class Value:
    """One metadata value."""

    kind: ValueType
    """Type of the value, or of an array's elements."""
    data: Any
    """A number, bytes (a string's UTF-8), a list of bytes, or a numpy vector."""
    array: bool = False

    @property
    def text(self) -> str:
        """A string value."""
        return bytes(self.data).decode()

    @property
    def texts(self) -> list[str]:
        """A string array."""
        return [piece.decode() for piece in self.data]

    @property
    def shown(self) -> str:
        """A scalar value as llama.cpp prints it."""
        if self.kind == _T.STRING:
            return self.text
        if self.kind in (_T.FLOAT32, _T.FLOAT64):
            return f"{self.data:f}"
        return ("false", "true")[self.data] if self.kind == _T.BOOL else str(self.data)


@dataclass(frozen=True)
class Tensor:
    """Name, type and shape of a tensor."""

    name: str
    kind: TensorType
    shape: tuple[int, ...]
    offset: int = 0
    """Bytes from the start of the data; ignored by the writer."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row (the last dimension)."""
        per_block, block_bytes = BLOCK_SIZES[self.kind]
        return self.shape[-1] // per_block * block_bytes

    @property
    def rows(self) -> int:
        """Number of rows; a vector has one."""
        return prod(self.shape[:-1])

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.rows * self.row_bytes


@dataclass(frozen=True)
class GgufFile:
    """Header of a GGUF; the tensors' bytes stay on disk."""

    path: Path
    metadata: dict[str, Value]
    tensors: dict[str, Tensor]
    data_start: int
    parts: tuple[GgufFile, ...] = ()
    """All files of a split model, this one first; see `gguf_parts`."""

    def read(self, tensor: Tensor, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows [stop - start, row bytes] of a tensor, as stored. Raises DamagedFile."""
        for part in self.parts:
            if tensor.name in part.tensors:
                return part.read(tensor, start, stop)
        count = (stop - start) * tensor.row_bytes
        try:
            with self.path.open("rb") as file:
                file.seek(self.data_start + tensor.offset + start * tensor.row_bytes)
                data = np.fromfile(file, np.uint8, count)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if data.size != count:
            raise damaged_gguf(self.path.name, f"it ends inside {tensor.name}")
        return data.reshape(stop - start, tensor.row_bytes)


def read_gguf(path: Path) -> GgufFile:
    """Read the header of any GGUF. Raises ModelNotFound, or DamagedFile saying what is wrong."""
    if path.is_dir():
        raise ModelNotFound(f"{path} is a folder, not a GGUF file", "pass a .gguf file in it")
    if not path.is_file():
        hint = "check the name, or see: yuegguf models list"
        raise explain_absence(path, ModelNotFound(f"there is no file {path}", hint))
    try:
        with path.open("rb") as file:
            return _read(path, file, path.stat().st_size)
    except OSError as error:
        raise unreadable(path, error) from error


def read_alignment(metadata: Mapping[str, Value], name: str) -> int:
    """Alignment of tensors in bytes. Raises DamagedFile naming the file `name`."""
    value = metadata.get("general.alignment", Value(_T.UINT32, ALIGNMENT))
    plain = value.kind == _T.UINT32 and not value.array
    if not plain or not 1 <= value.data <= READ_BYTES or value.data & (value.data - 1):
        raise damaged_gguf(name, "its alignment is not a power of two up to 1 MiB")
    return int(value.data)


def damaged_gguf(name: str, reason: str) -> DamagedFile:
    """Error for a damaged GGUF header."""
    return DamagedFile(f"{name} is damaged: {reason}", "download or convert it again")


def first_names(names: Sequence[str], most: int = 6) -> str:
    """The first names for a message, and the number of others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class _Cursor:
    """Forward reader of a file that stops at its end and at MAX_HEADER."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file, self.name = file, name
        self.left = self.size = min(size, MAX_HEADER)
        self.strings_left = MAX_STRINGS
        self.buffer, self.at = b"", 0

    def take(self, count: int) -> bytes:
        if count > self.left:
            reason = "ends inside its header" if self.size < MAX_HEADER else "has a header of over 128 MiB"
            raise damaged_gguf(self.name, f"it {reason}")
        end = self.at + count
        if end > len(self.buffer):
            self._refill(count)
            end = count
        data = self.buffer[self.at : end]
        self.at, self.left = end, self.left - count
        return data

    def _refill(self, count: int) -> None:
        tail = self.buffer[self.at :]
        self.buffer, self.at = tail + self.file.read(max(READ_BYTES, count - len(tail))), 0
        if len(self.buffer) < count:
            raise damaged_gguf(self.name, "it ends inside its header")

    def unpack(self, form: str) -> tuple[Any, ...]:
        return unpack("<" + form, self.take(calcsize("<" + form)))

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(8), "little"))

    def name_of(self, kind: str, most: int) -> str:
        """Read a key or the name of a tensor."""
        data = self.string()
        if not 1 <= len(data) <= most:
            raise damaged_gguf(self.name, f"the name of a {kind} has {len(data)} bytes")
        return self.decoded([data], f"the name of a {kind}")

    def decoded(self, strings: list[bytes], description: str) -> str:
        """Decode strings joined by 0; none may hold a zero byte, which would end it in C."""
        joined = b"\0".join(strings)
        try:
            text = joined.decode()
        except UnicodeDecodeError as error:
            raise damaged_gguf(self.name, f"{description} is not UTF-8") from error
        if joined.count(b"\0") != max(0, len(strings) - 1):
            raise damaged_gguf(self.name, f"{description} holds a zero byte")
        return text

    def value(self, key: str) -> Value:
        (kind,) = self.unpack("I")
        if kind != _T.ARRAY:
            return self.items(key, kind, 1, array=False)
        kind, count = self.unpack("IQ")
        return self.items(key, kind, count, array=True)

    def items(self, key: str, kind: int, count: int, array: bool) -> Value:
        if kind == _T.STRING:
            self.strings_left -= count
            if self.strings_left < 0 or count > self.left // 8:
                raise damaged_gguf(self.name, f"it announces {count} strings in {key}")
            strings = [self.string() for _ in range(count)]
            self.decoded(strings, f"the value of {key}")
            return Value(_T.STRING, strings if array else strings[0], array)
        if kind not in NUMBERS:
            raise damaged_gguf(self.name, f"{key} has the unknown type {kind}")
        vector = np.dtype(NUMBERS[_T(kind)])
        values = np.frombuffer(self.take(count * vector.itemsize), vector)
        if kind == _T.BOOL and np.any(values > 1):
            raise damaged_gguf(self.name, f"{key} is neither true nor false")
        return Value(_T(kind), values if array else values[0].item(), array)

    def tensor(self) -> Tensor:
        name = self.name_of("tensor", MAX_NAME)
        (n_dims,) = self.unpack("I")
        if not 1 <= n_dims <= 4:
            raise damaged_gguf(self.name, f"tensor {name} has {n_dims} dimensions")
        *dims, kind, offset = self.unpack(f"{n_dims}QIQ")
        if kind not in BLOCK_SIZES:
            raise damaged_gguf(self.name, f"tensor {name} has the type {kind}, which weights never have")
        tensor = Tensor(name, TensorType(kind), tuple(reversed(dims)), offset)
        if not all(dims) or dims[0] % BLOCK_SIZES[tensor.kind][0]:
            raise damaged_gguf(self.name, f"tensor {name} has the impossible shape {tensor.shape}")
        return tensor


def _read(path: Path, file: BinaryIO, size: int) -> GgufFile:
    cursor = _Cursor(file, size, path.name)
    if size < len(MAGIC) or cursor.take(len(MAGIC)) != MAGIC:
        error = DamagedFile(f"{path.name} is not a GGUF file", "pass a .gguf model")
        raise explain_damage(path, error, ("gguf",))
    version, n_tensors, n_values = cursor.unpack("IQQ")
    if version not in (2, VERSION):
        raise damaged_gguf(path.name, f"its version is {version}, not {VERSION}")
    for count, most, what in ((n_values, MAX_VALUES, "values"), (n_tensors, MAX_TENSORS, "tensors")):
        if count > most:
            raise damaged_gguf(path.name, f"it announces {count} {what}")
    metadata: dict[str, Value] = {}
    for _ in range(n_values):
        key = cursor.name_of("value", MAX_KEY)
        metadata[key] = cursor.value(key)
    in_order = [cursor.tensor() for _ in range(n_tensors)]
    tensors = {tensor.name: tensor for tensor in in_order}
    if len(metadata) != n_values or len(tensors) != n_tensors:
        raise damaged_gguf(path.name, "a name is given twice")
    alignment = read_alignment(metadata, path.name)
    start = cursor.size - cursor.left
    start += -start % alignment
    _check_offsets(path.name, in_order, alignment, size - start)
    return GgufFile(path, metadata, tensors, start)


def _check_offsets(name: str, tensors: list[Tensor], alignment: int, size: int) -> None:
    """Refuse tensors that do not follow each other, aligned, as llama.cpp demands, within `size` bytes."""
    expected = 0
    for tensor in tensors:
        if tensor.offset != expected:
            raise damaged_gguf(name, f"tensor {tensor.name} has the impossible offset {tensor.offset}")
        end = expected + tensor.size
        if end > size:
            raise damaged_gguf(name, f"it ends before the end of tensor {tensor.name}")
        expected = end + -end % alignment
