"""Files as `torch.save` writes them, made without PyTorch."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import NamedTuple

from yuegguf_convert.checkpoint import open_checkpoint

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}


class Stored(NamedTuple):
    """A tensor of a file."""

    kind: str
    """Name of torch's storage class."""
    shape: tuple[int, ...]
    data: bytes
    stride: tuple[int, ...] | None = None


def write_torch(path: Path, tensors: Mapping[str, Stored], wrapper: str = "") -> Path:
    """A zip archive of tensors with one storage each, inside a dictionary under `wrapper` if it is given."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _pickle(tensors, wrapper))
        for key, tensor in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{key}", tensor.data)
    return path


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """All tensors of a checkpoint's folder."""
    found = {}
    for name, tensor in open_checkpoint(folder).items():
        rows = 1 if len(tensor.shape) == 1 else tensor.shape[0]
        data = tensor.rows(0, rows).tobytes()
        found[name] = Stored(STORAGES[tensor.dtype], tensor.shape, data)
    return found


def _pickle(tensors: Mapping[str, Stored], wrapper: str) -> bytes:
    state = (
        b"}(" + b"".join(_text(name) + _tensor(i, t) for i, (name, t) in enumerate(tensors.items())) + b"u"
    )
    if wrapper:
        state = b"}(" + _text("epoch") + _number(3) + _text(wrapper) + state + b"u"
    return b"\x80\x02" + state + b"."


def _tensor(key: int, tensor: Stored) -> bytes:
    """A call of torch._utils._rebuild_tensor_v2."""
    shape = tensor.shape
    stride = tensor.stride or tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    storage = b"(" + _text("storage") + b"ctorch\n" + tensor.kind.encode() + b"\n" + _text(str(key))
    storage += _text("cpu") + _number(prod(shape)) + b"tQ"
    arguments = storage + _number(0) + _numbers(shape) + _numbers(stride) + b"\x89}"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
