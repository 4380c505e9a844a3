"""Encoding of a checkpoint's values as GGUF bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.lm.gguf_header import TensorType

F16_MAX = 65504.0
TINY = 1e-30
"""Below it the 16-bit scale of a Q8_0 block is 0 anyway, and its 32-bit inverse could overflow."""
EXPONENT: Mapping[str, Any] = {
    "F32": np.uint32(0x7F800000),
    "F16": np.uint16(0x7C00),
    "BF16": np.uint16(0x7F80),
}
"""Exponent bits of each dtype; all of them set means NaN or Inf."""


def encode(
    raw: NDArray[Any],
    dtype: str,
    kind: TensorType,
    name: str,
    by_llama: Callable[[NDArray[np.float32]], NDArray[np.uint8]] | None = None,
) -> NDArray[np.uint8]:
    """Rows of a checkpoint (BF16 as uint16) → bytes [rows, row bytes] of the GGUF type `kind`.

    `by_llama` replaces the built-in encoding into blocks. Raises DamagedFile for NaN or Inf,
    RequestError for values outside the range of `kind`; both name the tensor.
    """
    raw = np.ascontiguousarray(raw)
    bits = raw.view(np.uint32 if dtype == "F32" else np.uint16)
    if bool(np.any((bits & EXPONENT[dtype]) == EXPONENT[dtype])):
        raise DamagedFile(f"tensor {name} holds NaN or Inf", "download the checkpoint again")
    if kind.name == dtype:
        return raw.view(np.uint8)
    values = widen(raw, dtype)
    if kind == TensorType.F32:
        return values.view(np.uint8)
    largest = float(np.abs(values).max(initial=0.0))
    if kind == TensorType.F16:
        _check_range(largest, F16_MAX, kind, name)
        return values.astype(np.float16).view(np.uint8)
    if kind == TensorType.BF16:
        _check_range(largest, float.fromhex("0x1.fep127"), kind, name)
        return round_bf16(values).view(np.uint8)
    if by_llama is not None:
        return by_llama(values)
    _check_range(largest, 127 * F16_MAX, kind, name)
    blocks: NDArray[np.uint8] = quantize(np.where(np.abs(values) < TINY, np.float32(0), values), kind)
    return blocks


def widen(raw: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Stored values (BF16 as uint16) → float32, exactly."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False)


def round_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Finite float32 → the nearest BF16, ties to even, as its bits."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype(np.uint16)


def _check_range(largest: float, limit: float, kind: TensorType, name: str) -> None:
    if largest > limit:
        raise RequestError(
            f"tensor {name} holds {largest:g}, outside the range of {kind.name}",
            "convert to BF16 or F32 instead",
        )
