"""Merges LoRA adapters into a model's weights, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import RequestError
from yuegguf.lm.adapters import HALF_SUFFIXES, Lora, lora_factor, read_adapter, read_alpha
from yuegguf.lm.gguf_model import CheckedModel, read_model
from yuegguf.progress import Event, Progress, silent

from .dtypes import encode, widen
from .gguf_file import GgufFile, Tensor, ValueType, texts, write_gguf
from .quantize import FLOAT_TYPES
from .safetensors import STORED_DTYPES
from .stream import BLOCK_VALUES
from .target import partial_file

LORAS_KEY = "yuegguf.loras"
"""Metadata key of a merged model: all its adapters in order, as FILE:SCALE."""


@dataclass(frozen=True)
class _Adapter:
    file: GgufFile
    alpha: float
    scale: float

    def change(self, weight: str) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Scaled B [out, rank] and A [rank, in] of a weight; None where the adapter does not change it."""
        a, b = (self.file.tensors.get(weight + half) for half in HALF_SUFFIXES)
        if a is None or b is None or not self.scale:
            return None
        by = np.float32(lora_factor(self.alpha, a.shape[0], self.scale))
        return by * _values(self.file, b, 0, b.rows), _values(self.file, a, 0, a.rows)


def merge_loras(
    base: Path, loras: Sequence[Lora], out: Path, *, overwrite: bool = False, progress: Progress = silent
) -> Path:
    """Write `base` with scale · alpha / rank · B·A of every adapter added to its weights, and return `out`.

    Types stay, so F16 and BF16 weights are rounded once. Raises ModelNotFound, DamagedFile for an adapter
    that does not fit, RequestError for a quantised base, StorageError; `out` appears whole or not at all.
    """
    checked = read_model(base)
    model = checked.file
    _check_exact(model, "merge into the F32, F16 or BF16 file, then: yuegguf quantize")
    adapters = [_open(lora, checked) for lora in loras]
    tensors = list(model.tensors.values())
    total, done = sum(tensor.size for tensor in tensors), 0

    def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        nonlocal done
        changes = [change for each in adapters if (change := each.change(tensor.name)) is not None]
        step = max(1, BLOCK_VALUES // tensor.shape[-1])
        for start in range(0, tensor.rows, step):
            block = _block(model, tensor, changes, start, min(start + step, tensor.rows))
            done += block.size
            yield block
            progress(Event("convert", done, total, tensor.name))

    metadata = model.metadata | {LORAS_KEY: texts([*_merged_before(model), *map(str, loras)])}
    with partial_file(out, overwrite) as partial:
        write_gguf(partial, metadata, tensors, blocks)
        read_model(partial)
    return out


def _merged_before(model: GgufFile) -> list[str]:
    """The adapters that are in a model's weights already; none where that is no list of texts."""
    known = model.metadata.get(LORAS_KEY)
    if known is None or not known.array or known.kind != ValueType.STRING:
        return []
    return known.texts


def _block(
    model: GgufFile,
    tensor: Tensor,
    changes: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    start: int,
    stop: int,
) -> NDArray[np.uint8]:
    """Stored rows of a tensor with the changes added; bit-exact without changes."""
    if not changes:
        return model.read(tensor, start, stop)
    values = _values(model, tensor, start, stop)
    for b, a in changes:
        values = values + b[start:stop] @ a
    return encode(values, "F32", tensor.kind, tensor.name)


def _values(file: GgufFile, tensor: Tensor, start: int, stop: int) -> NDArray[np.float32]:
    """Rows [stop - start, columns] of an F32, F16 or BF16 tensor."""
    kind = tensor.kind.name
    return widen(file.read(tensor, start, stop).view(STORED_DTYPES[kind]), kind)


def _open(lora: Lora, model: CheckedModel) -> _Adapter:
    file = read_adapter(lora.path, model.shape.projections(), model.file.path.name)
    _check_exact(file, "convert the adapter again with: yuegguf convert-lora FOLDER")
    return _Adapter(file, read_alpha(file), lora.scale)


def _check_exact(file: GgufFile, hint: str) -> None:
    kinds = {tensor.kind for tensor in file.tensors.values()} - FLOAT_TYPES
    if kinds:
        names = ", ".join(sorted(kind.name for kind in kinds))
        raise RequestError(f"{file.path.name} is quantised ({names}), which nothing can be added to", hint)
