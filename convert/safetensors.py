"""Read safetensors checkpoints without executing or trusting them.

Layout (huggingface/safetensors, README "Format"): u64 header length, a JSON header that maps a
tensor's name to dtype, shape and byte range, then the data without holes. Rows are read, not
mapped: mapped pages count as resident memory, and a file that shrinks would kill the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile
from yuegguf.files.kinds import explain_damage
from yuegguf.files.reading import open_plain_file, unreadable

from .json_object import read_object, shorten

STORED_DTYPES: Mapping[str, Any] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""dtype names → numpy dtypes; BF16 stays as its bits."""
MAX_HEADER = 16 << 20
"""Maximum bytes of a header; those of YuE's checkpoints have less than 100 KB."""
MAX_NAME, MAX_DIMENSIONS = 200, 8
"""Maximum characters of a tensor's name, and dimensions of its shape."""
DOWNLOAD_HINT = "download the checkpoint again"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint; its values stay on disk."""

    name: str
    dtype: str
    """"F32", "F16" or "BF16"."""
    shape: tuple[int, ...]
    path: Path
    start: int
    """Byte offset of the first value in the file."""

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return prod(self.shape) * int(STORED_DTYPES[self.dtype].itemsize)

    def check(self) -> None:
        """Compare the values with their checksum, if the format has one. Raises DamagedFile."""

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows [stop - start, columns] as stored (BF16 as uint16); a vector is one row.

        Raises DamagedFile when the file got shorter since it was opened.
        """
        columns = self.shape[-1]
        kind = STORED_DTYPES[self.dtype]
        try:
            with self.path.open("rb") as file:
                file.seek(self.start + start * columns * kind.itemsize)
                values = np.fromfile(file, kind, (stop - start) * columns)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if values.size != (stop - start) * columns:
            raise DamagedFile(f"{self.path.name} ends inside {self.name}", DOWNLOAD_HINT)
        return values.reshape(stop - start, columns)


def open_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, in the order of their bytes. Raises DamagedFile."""
    try:
        size = path.stat().st_size
        with open_plain_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER):
                damaged = DamagedFile(f"{path.name} is truncated or no safetensors file", DOWNLOAD_HINT)
                raise explain_damage(path, damaged, ("safetensors",))
            header = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        entries = _object(header, path.name)
    except DamagedFile as error:
        raise explain_damage(path, error, ("safetensors",)) from error
    entries.pop("__metadata__", None)
    for name in entries:
        if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
            raise DamagedFile(f"{path.name}: a tensor's name makes no sense ({shorten(name)})", DOWNLOAD_HINT)
    tensors = [_tensor(path, name, entry, 8 + length) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.size))
    _check_cover(path.name, tensors, 8 + length, size)
    return {tensor.name: tensor for tensor in tensors}


def _tensor(path: Path, name: str, entry: Any, base: int) -> StoredTensor:
    def bad(reason: str) -> DamagedFile:
        return DamagedFile(f"{path.name}: tensor {name} {reason}", DOWNLOAD_HINT)

    if not isinstance(entry, dict):
        raise bad("has no description")
    dtype: Any
    shape: Any
    span: Any
    dtype, shape, span = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in STORED_DTYPES:
        raise DamagedFile(
            f"{path.name}: tensor {name} has dtype {shorten(dtype)}",
            f"only {', '.join(STORED_DTYPES)} can be converted",
        )
    if not _counts(shape) or not 0 < len(shape) <= MAX_DIMENSIONS:
        raise bad(f"has no usable shape ({shorten(shape)})")
    if not _counts(span) or len(span) != 2 or span[1] < span[0]:
        raise bad(f"has no usable byte range ({shorten(span)})")
    tensor = StoredTensor(name, dtype, tuple(shape), path, base + span[0])
    if tensor.size != span[1] - span[0]:
        raise bad(f"has {span[1] - span[0]} bytes, but its shape {tensor.shape} needs {tensor.size}")
    return tensor


def _check_cover(file: str, tensors: Iterable[StoredTensor], start: int, size: int) -> None:
    """Refuse tensors that overlap, leave a hole, or do not fill the file, as the format demands."""
    end, before = start, "the header"
    for tensor in tensors:
        if tensor.start != end:
            word = "overlaps" if tensor.start < end else "leaves a hole after"
            raise DamagedFile(f"{file}: tensor {tensor.name} {word} {before}", DOWNLOAD_HINT)
        end, before = tensor.start + tensor.size, tensor.name
        if end > size:
            raise DamagedFile(
                f"{file} is truncated: tensor {tensor.name} ends {end - size} bytes behind it", DOWNLOAD_HINT
            )
    if end != size:
        raise DamagedFile(f"{file} has {size - end} bytes too many behind {before}", DOWNLOAD_HINT)


def _object(text: bytes, file: str) -> dict[str, Any]:
    try:
        return read_object(text)
    except ValueError as error:
        raise DamagedFile(f"{file} has a damaged header: {error}", DOWNLOAD_HINT) from error


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**48 for v in values)
