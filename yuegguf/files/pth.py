"""Reads the tensors of a PyTorch checkpoint without PyTorch and without executing its content.

Both containers of `torch.save` are read: the zip archive (`<root>/data.pkl`, storages as stored entries
`<root>/data/<key>`) and the older stream (magic number, protocol, system facts, pickle, storage keys, then
per key a count and the raw numbers). The file is memory-mapped and a tensor is looked at only when it is
asked for, so an optimiser's half of a checkpoint costs nothing. Every offset is checked before it is used,
and every byte of an archive that is read against its checksum, where torch.save wrote any.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.kinds import explain_absence, explain_damage
from yuegguf.files.pickle_vm import MAX_PICKLE_BYTES, Opaque, Pickle, Storage, TensorRef, read_pickle
from yuegguf.files.reading import open_plain_file, unreadable


class NoCheckpoint(ValueError):
    """A whole zip archive that torch.save did not write."""


class Span(NamedTuple):
    """Byte range of a storage in its file."""

    start: int
    """First byte."""
    size: int
    """Bytes."""
    crc: int | None = None
    """CRC-32 of the bytes, which most zip archives keep and the older stream does not."""


class Place(NamedTuple):
    """Numbers of a tensor in its file, row after row."""

    kind: str
    """Name of torch's storage class: FloatStorage, HalfStorage, BFloat16Storage, …"""
    shape: tuple[int, ...]
    start: int
    """Byte of the first number."""
    span: Span
    """Storage that holds them."""


CRC_BLOCK = 16 << 20
"""Bytes checked at a time."""

_BFLOAT16 = "BFloat16Storage"
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    _BFLOAT16: "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MALFORMED = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    EOFError, OSError, NotImplementedError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""Exceptions of the standard library for malformed files."""


class StateDict(Mapping[str, NDArray[Any]]):
    """Tensors of a checkpoint by name; each is a view of the file, created on access."""

    def __init__(self, path: Path, entries: dict[Any, Any], data: mmap.mmap, spans: dict[str, Span]) -> None:
        self.path = path
        self._entries = {name: value for name, value in entries.items() if isinstance(name, str)}
        self._data = data
        self._spans = spans
        self._checked: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The tensor of that name; bfloat16 comes widened to float32.

        Raises KeyError where there is none, DamagedFile where it is no tensor or leaves its storage.
        """
        value = self._tensor(name)
        try:
            self._check(value.storage.key)
            return _view(value, self._data, self._spans)
        except _MALFORMED as error:
            raise self._unreadable(name, error) from error

    def place(self, name: str) -> Place:
        """The place of that tensor's numbers, which are not read.

        Raises KeyError where there is none, DamagedFile where it is no tensor, leaves its storage, or does
        not lie there row after row.
        """
        tensor = self._tensor(name)
        try:
            _, start = _bounds(tensor, self._spans)
        except _MALFORMED as error:
            raise self._unreadable(name, error) from error
        steps = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
        if any(
            n > 1 and step != usual for n, step, usual in zip(tensor.shape, tensor.stride, steps, strict=True)
        ):
            raise DamagedFile(
                f"{self.path.name}: tensor {name} is stored transposed or with gaps",
                "save it again with .contiguous()",
            )
        return Place(tensor.storage.kind, tensor.shape, start, self._spans[tensor.storage.key])

    def within(self, *keys: str) -> StateDict:
        """The dictionary of tensors under the first of these keys that holds one, else this one."""
        inner = next((v for key in keys if isinstance(v := self._entries.get(key), dict)), None)
        return self if inner is None else StateDict(self.path, inner, self._data, self._spans)

    def _tensor(self, name: str) -> TensorRef:
        value = self._entries[name]
        if isinstance(value, Opaque):
            raise DamagedFile(f"{self.path.name}: {name} is made by {value.what}, which is not read")
        if not isinstance(value, TensorRef):
            raise DamagedFile(f"{self.path.name}: {name} is not a tensor")
        return value

    def _unreadable(self, name: str, error: Exception) -> DamagedFile:
        return DamagedFile(f"{self.path.name}: tensor {name} cannot be read: {error}")

    def _check(self, key: str) -> None:
        """Compare a storage with its checksum, once. Raises ValueError."""
        if key in self._spans and key not in self._checked:
            _check_crc(self._spans[key], self._data, f"storage {key!r}")
            self._checked.add(key)


def read_state_dict(path: Path, key: str | None = None) -> StateDict:
    """The tensors of a checkpoint, or of the dictionary that it keeps under `key`.

    Nothing in the file is executed: names in its pickle are never looked up. Raises ModelNotFound where the
    file is not there, DamagedFile where it is no checkpoint, is truncated, or has no such key.
    """
    try:
        with open_plain_file(path) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except OSError as error:
        missing = ModelNotFound(f"cannot read {path}: {error.strerror}")
        raise explain_absence(path, missing) from error
    except ValueError as error:
        raise explain_damage(path, DamagedFile(f"{path} is empty", "download it again")) from error
    try:
        content, spans = _read_zip(path, data) if data[:2] == b"PK" else _read_legacy(data)
    except _MALFORMED as error:
        reason = "a text in it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        damaged = DamagedFile(f"{path} is not a whole PyTorch checkpoint: {reason}", "download it again")
        usual = ("torch",) if isinstance(error, NoCheckpoint) else ("torch", "zip")
        raise explain_damage(path, damaged, usual) from error
    return StateDict(path, _entries(path, content, key), data, spans)


def _entries(path: Path, content: Any, key: str | None) -> dict[Any, Any]:
    what = "the checkpoint" if key is None else f"key {key!r}"
    if key is not None:
        if not isinstance(content, dict) or key not in content:
            raise DamagedFile(f"{path} has no key {key!r}", "is it the right checkpoint?")
        content = content[key]
    if isinstance(content, Opaque):
        raise DamagedFile(f"{path}: {what} is made by {content.what}, which is not read")
    if not isinstance(content, dict):
        raise DamagedFile(f"{path}: {what} is not a dictionary of tensors")
    return content


def _read_zip(path: Path, data: mmap.mmap) -> tuple[Any, dict[str, Span]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    roots = [e.filename[: -len("data.pkl")] for e in entries if e.filename.endswith("/data.pkl")]
    if not roots:
        raise NoCheckpoint("the archive has no data.pkl")
    if len(roots) > 1:
        raise ValueError("the archive has several data.pkl")
    root = roots[0]
    summed = any(entry.CRC for entry in entries)  # torch can leave them all out
    spans = {e.filename: _stored(e, data, summed) for e in entries if e.filename.startswith(root)}
    order = spans.get(root + "byteorder")
    if order and data[order.start : order.start + order.size] != b"little":
        raise ValueError("its numbers are big-endian")
    pickled = spans[root + "data.pkl"]
    if pickled.size > MAX_PICKLE_BYTES:
        raise ValueError("its pickle is too large")
    _check_crc(pickled, data, "its pickle")
    content = read_pickle(data[pickled.start : pickled.start + pickled.size]).value
    prefix = root + "data/"
    return content, {name[len(prefix) :]: s for name, s in spans.items() if name.startswith(prefix)}


def _stored(entry: zipfile.ZipInfo, data: mmap.mmap, summed: bool) -> Span:
    """Byte range of an uncompressed archive member. Raises ValueError."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise ValueError(f"{entry.filename!r} is compressed or encrypted, which torch.save never does")
    header = entry.header_offset
    if header < 0 or data[header : header + 4] != b"PK\x03\x04":
        raise ValueError(f"{entry.filename!r} is not where the directory says")
    name_bytes, extra_bytes = struct.unpack_from("<HH", data, header + 26)
    start = header + 30 + name_bytes + extra_bytes
    if entry.file_size != entry.compress_size or start + entry.file_size > len(data):
        raise ValueError(f"{entry.filename!r} is cut off")
    return Span(start, entry.file_size, entry.CRC if summed else None)


def _check_crc(span: Span, data: mmap.mmap, name: str) -> None:
    """Raise ValueError where the bytes are not those that were written."""
    if span.crc is None:
        return
    crc = 0
    for start in range(span.start, span.start + span.size, CRC_BLOCK):
        crc = zlib.crc32(data[start : min(start + CRC_BLOCK, span.start + span.size)], crc)
    if crc != span.crc:
        raise ValueError(f"{name} does not match its checksum")


def check_span(path: Path, span: Span) -> None:
    """Compare a storage with its checksum, reading it in blocks. Raises DamagedFile, OSError."""
    if span.crc is None:
        return
    crc, left = 0, span.size
    with open_plain_file(path) as file:
        file.seek(span.start)
        while left and (block := file.read(min(CRC_BLOCK, left))):
            crc, left = zlib.crc32(block, crc), left - len(block)
    if left or crc != span.crc:
        raise DamagedFile(f"{path.name}: a storage does not match its checksum", "download it again")


def _read_legacy(data: mmap.mmap) -> tuple[Any, dict[str, Span]]:
    position = 0
    parts: list[Pickle] = []
    for _ in range(5):
        part = read_pickle(data[position : position + MAX_PICKLE_BYTES])
        position += part.size
        parts.append(part)
        if parts[0].value != _LEGACY_MAGIC:
            raise ValueError("it is neither a zip archive nor the older stream")
    _, protocol, system, content, keys = parts
    if protocol.value != _LEGACY_PROTOCOL or not system.value["little_endian"]:
        raise ValueError("it is of another protocol or byte order")
    return content.value, _legacy_spans(data, position, keys.value, content.storages)


def _legacy_spans(data: mmap.mmap, position: int, keys: Any, storages: dict[str, Storage]) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    for key in keys:
        if key not in storages or storages[key].kind not in _DTYPES:
            raise ValueError(f"storage {key!r} is of a kind that is not read")
        (count,) = struct.unpack_from("<q", data, position)
        size = count * np.dtype(_DTYPES[storages[key].kind]).itemsize
        position += 8
        if count < 0 or position + size > len(data):
            raise ValueError(f"storage {key!r} is cut off")
        spans[key] = Span(position, size)
        position += size
    return spans


def _view(tensor: TensorRef, data: mmap.mmap, spans: dict[str, Span]) -> NDArray[Any]:
    """The array of a tensor record, after checking that it lies inside its storage."""
    shape = tensor.shape
    dtype, offset = _bounds(tensor, spans)
    bits = tensor.storage.kind == _BFLOAT16
    if math.prod(shape) == 0:
        return np.zeros(shape, np.float32 if bits else dtype)
    steps = tuple(n * dtype.itemsize for n in tensor.stride)
    view: NDArray[Any] = np.ndarray(shape, dtype, data, offset, steps)
    return (view.astype(np.uint32) << np.uint32(16)).view(np.float32) if bits else view


def _bounds(tensor: TensorRef, spans: dict[str, Span]) -> tuple[np.dtype[Any], int]:
    """Type and first byte of a tensor record, checked to lie in its storage. Raises ValueError."""
    storage, shape, stride = tensor.storage, tensor.shape, tensor.stride
    if storage.kind not in _DTYPES:
        raise ValueError(f"numbers of kind {storage.kind!r} are not read")
    if storage.key not in spans:
        raise ValueError(f"its storage {storage.key!r} is not in the file")
    dtype = np.dtype(_DTYPES[storage.kind])
    start, size, _ = spans[storage.key]
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if min((tensor.offset, *shape, *stride)) < 0 or len(shape) > 8:
        raise ValueError("its shape is impossible")
    count = math.prod(shape)
    if count == 0:
        return dtype, start
    if storage.numel * dtype.itemsize > size or max(last + 1, count) > storage.numel:
        raise ValueError("it leaves its storage")
    return dtype, start + tensor.offset * dtype.itemsize
