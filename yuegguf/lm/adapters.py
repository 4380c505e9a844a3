"""LoRA adapters: files and scales, and the checks of a GGUF adapter against a LLaMA.

For a weight W [out, in] an adapter holds A [rank, in] and B [out, rank]; the model computes with
W + scale · alpha / rank · B·A. Names and metadata: llama.cpp, convert_lora_to_gguf.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Self

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files.field_types import take_types
from yuegguf.lm.gguf_header import GgufFile, Value, ValueType, first_names, read_gguf

MAX_ADAPTERS = 2
"""Maximum adapters: llama.cpp keeps them in a hash table by address, and the order of three, with the last
bits of the sum, differed in 17 of 150 loads; that of two never did."""
MAX_SCALE = 100
"""Maximum absolute scale of an adapter."""
HALF_SUFFIXES = (".lora_a", ".lora_b")
ALPHA_KEY = "adapter.lora.alpha"
REQUIRED_METADATA = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": "llama"}
CONVERT_HINT = "make one with: yuegguf convert-lora FOLDER"


@dataclass(frozen=True)
class Lora:
    """An adapter and its scale. Raises RequestError for a scale that is no number or too large."""

    path: Path
    """GGUF file, or the name of an installed adapter."""
    scale: float = 1.0
    """1 = as trained; 0 = not loaded."""

    def __post_init__(self) -> None:
        take_types(self)
        if not abs(self.scale) <= MAX_SCALE:  # so that NaN is refused too
            raise RequestError(
                f"{self.scale} is not a LoRA scale",
                f"write a number up to {MAX_SCALE}, as in opera.gguf:0.8",
            )

    def __str__(self) -> str:
        return f"{self.path.name}:{self.scale:g}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse FILE or FILE:SCALE. Raises RequestError."""
        name, colon, tail = text.rpartition(":")
        try:
            scale = float(tail)
        except ValueError:  # the colon belongs to the name, as in C:\\opera.gguf
            return cls(Path(text))
        return cls(Path(name), scale) if colon else cls(Path(text))


def read_alpha(file: GgufFile) -> float:
    """Alpha of an adapter; 0 = B·A is scaled neither by alpha nor by the rank, as in llama.cpp."""
    return float(file.metadata[ALPHA_KEY].data) if ALPHA_KEY in file.metadata else 0.0


def lora_factor(alpha: float, rank: int, scale: float) -> float:
    """Factor of B·A."""
    return scale * alpha / rank if alpha else scale


def read_adapter(path: Path, weights: Mapping[str, tuple[int, int]], base: str) -> GgufFile:
    """Read an adapter of the weights [out, in] of the model in file `base`.

    Raises ModelNotFound, DamagedFile: llama.cpp would end the whole process over some damaged adapters.
    """
    file = read_gguf(path)
    for key, required in REQUIRED_METADATA.items():
        value = file.metadata.get(key)
        is_text = value is not None and value.kind == ValueType.STRING and not value.array
        text = value.text if value is not None and is_text else None
        if text != required:
            raise DamagedFile(
                f"{path.name} is not a LoRA adapter of a LLaMA: its {key} is {text!r}", CONVERT_HINT
            )
    alpha = file.metadata.get(ALPHA_KEY, Value(ValueType.FLOAT32, 0.0))
    if alpha.array or alpha.kind != ValueType.FLOAT32 or not isfinite(alpha.data):
        raise DamagedFile(f"{path.name} is damaged: its {ALPHA_KEY} is no 32-bit number", CONVERT_HINT)
    known = (ALPHA_KEY, *REQUIRED_METADATA)
    if unknown := [key for key in file.metadata if key.startswith("adapter.") and key not in known]:
        raise DamagedFile(
            f"{path.name} asks for more than a LoRA: {first_names(unknown)}", "use a plain LoRA"
        )
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    if complaints := shape_misfits(shapes, weights):
        raise DamagedFile(
            f"{path.name} does not fit {base}: {complaints}", "use the model that it was trained on"
        )
    return file


def shape_misfits(
    tensors: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, tuple[int, int]],
    rank: int | None = None,
    called: Mapping[str, str] | None = None,
) -> str:
    """Misfits between tensors such as blk.0.attn_q.weight.lora_a and weights [out, in]; empty for none.

    `rank` is the required rank; None = any. `called` holds the names of tensors in the message.
    """
    names = called or {}
    halves = {f"{weight}{half}" for weight in weights for half in HALF_SUFFIXES}
    partners = [
        weight + half for weight in weights for half in HALF_SUFFIXES if weight + _other_half(half) in tensors
    ]
    shaped = [
        f"{names.get(name, name)} {tensors[name]} instead of {expected}"
        for weight, shape in weights.items()
        for name, expected in _expected_shapes(tensors, weight, shape, rank)
        if tensors[name] != expected
    ]
    lists = (
        ("missing", [names.get(name, name) for name in partners if name not in tensors]),
        ("unknown", [names.get(name, name) for name in tensors if name not in halves]),
        ("of another shape", shaped),
    )
    if not tensors:
        return "it holds no tensors"
    return "; ".join(f"{word}: {first_names(listed)}" for word, listed in lists if listed)


def _expected_shapes(
    tensors: Mapping[str, tuple[int, ...]], weight: str, shape: tuple[int, int], rank: int | None
) -> Iterable[tuple[str, tuple[int, int]]]:
    """Expected shapes of the halves of a weight, if both are present."""
    a, b = (weight + half for half in HALF_SUFFIXES)
    if a in tensors and b in tensors:
        rank = tensors[a][0] if rank is None else rank
        yield from ((a, (rank, shape[1])), (b, (shape[0], rank)))


def _other_half(half: str) -> str:
    return HALF_SUFFIXES[1 - HALF_SUFFIXES.index(half)]
