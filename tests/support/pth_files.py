"""PyTorch checkpoints: saved by torch, or crafted byte by byte."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path: Path, content: Any, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    base = torch.randn(6, 7)
    kinds = (torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    return {
        "whole": base,
        "transposed": base.t(),
        "row": base[2],
        "strided": base[1::2, ::3],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "bool": torch.tensor([True, False, True]),
        "bfloat16": torch.tensor([1.0, -2.5, 3.14159, float("inf"), 1e-40]).bfloat16(),
        **{str(kind): (torch.randn(5) * 50).abs().to(kind) for kind in kinds},
    }


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def crafted(path: Path, pickled: bytes, storage: bytes = bytes(40)) -> Path:
    """A zip checkpoint with a hand-written pickle and one storage, key 0."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", storage)
    return path


def tensor_pickle(numel: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of {"x": tensor} whose numbers may lie."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if obj == "STORAGE" else None

    class Lie:
        def __reduce__(self) -> Any:
            args = ("STORAGE", offset, shape, stride, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, args

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"x": Lie()})
    return stream.getvalue()
