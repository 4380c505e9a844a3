"""The weights of one network as checked float32 arrays, with weight normalisation folded in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile

Floats = NDArray[np.float32]


class Weights:
    """Checked view of a state dict: arrays have the requested shape and are finite."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]], file: str) -> None:
        self._tensors = tensors
        self._file = file

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def count(self, prefix: str, part: str = "", first: int = 0) -> int:
        """Number of consecutive modules `prefix.first`, … that have tensors, or a `part` with tensors."""
        number = first
        while any(key.startswith(f"{prefix}.{number}.{part}") for key in self._tensors):
            number += 1
        return number - first

    def array(self, name: str, *shape: int | None) -> Floats:
        """The tensor `name` as contiguous float32; None in `shape` stands for any size.

        Raises DamagedFile where it is missing, has another shape, or holds NaN or infinity.
        """
        try:
            tensor = self._tensors[name]
        except KeyError:
            raise self.damaged(f"tensor {name} is missing") from None
        wrong = len(tensor.shape) != len(shape) or any(
            want is not None and want != size for want, size in zip(shape, tensor.shape, strict=True)
        )
        if wrong:
            wanted = ", ".join("any" if want is None else str(want) for want in shape)
            raise self.damaged(f"tensor {name} has shape {tuple(tensor.shape)}, expected ({wanted})")
        return self._finite(name, np.ascontiguousarray(tensor, np.float32))

    def weight(self, module: str, *shape: int | None, norm_axis: int = 0) -> Floats:
        """The weight of `module`, unfolding either spelling of weight normalisation.

        W = g · v / |v| with the norm over every axis but `norm_axis` (torch.nn.utils.weight_norm and
        torch.nn.utils.parametrizations.weight_norm). Raises DamagedFile as `array` does.
        """
        new = f"{module}.parametrizations.weight.original"
        for g_name, v_name in ((f"{module}.weight_g", f"{module}.weight_v"), (f"{new}0", f"{new}1")):
            if g_name in self._tensors or v_name in self._tensors:
                v = self.array(v_name, *shape)
                g = self.array(g_name, *(n if axis == norm_axis else 1 for axis, n in enumerate(v.shape)))
                others = tuple(axis for axis in range(v.ndim) if axis != norm_axis)
                norm = np.sqrt(np.sum(np.square(v, dtype=np.float64), axis=others, keepdims=True))
                with np.errstate(divide="ignore", invalid="ignore"):
                    return self._finite(v_name, v * (g / norm).astype(np.float32))
        return self.array(f"{module}.weight", *shape)

    def damaged(self, reason: str) -> DamagedFile:
        """DamagedFile that names this file and the reason."""
        return DamagedFile(f"{self._file}: {reason}", "is it the right checkpoint?")

    def _finite(self, name: str, array: Floats) -> Floats:
        # min and max carry NaN and infinity along, without a boolean array as large as the tensor
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise self.damaged(f"tensor {name} holds NaN or infinity")
        return array
