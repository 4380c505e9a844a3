"""LoRA adapters: which ones, how strongly, and what a GGUF adapter must hold to fit a LLaMA.

For a weight W [out, in] an adapter holds A [rank, in] and B [out, rank]; the model then computes with
W + scale · alpha / rank · B·A. Names and metadata: llama.cpp, convert_lora_to_gguf.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Self

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.lm.gguf_header import GgufFile, Value, ValueType, first_names, read_gguf

MAX_ADAPTERS = 2
"""llama.cpp keeps them in a hash table by address: the order of three, and with it the last bits of the
sum, was another one in 17 of 150 loads; that of two never was."""
MAX_SCALE = 100
"""The largest scale of an adapter, in either direction."""
HALF_SUFFIXES = (".lora_a", ".lora_b")
ALPHA_KEY = "adapter.lora.alpha"
REQUIRED_METADATA = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": "llama"}
CONVERT_HINT = "make one with: yuegguf convert-lora FOLDER"


@dataclass(frozen=True)
class Lora:
    """An adapter and how strongly it works. Raises RequestError for a scale that is no number."""

    path: Path
    """A GGUF adapter, or the name of an installed one."""
    scale: float = 1.0
    """1 = as trained; 0 = not at all: it is not even loaded."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not abs(self.scale) <= MAX_SCALE:  # so that NaN is refused too
            raise RequestError(
                f"{self.scale} is not a LoRA scale",
                f"write a number up to {MAX_SCALE}, as in opera.gguf:0.8",
            )

    def __str__(self) -> str:
        return f"{self.path.name}:{self.scale:g}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """FILE or FILE:SCALE. Raises RequestError."""
        name, colon, tail = text.rpartition(":")
        try:
            scale = float(tail)
        except ValueError:  # a colon of the name's own, as in C:\\opera.gguf
            return cls(Path(text))
        return cls(Path(name), scale) if colon else cls(Path(text))


def read_alpha(file: GgufFile) -> float:
    """An adapter's alpha: divided by the rank it scales B·A; 0 = neither does, as llama.cpp has it."""
    return float(file.metadata[ALPHA_KEY].data) if ALPHA_KEY in file.metadata else 0.0


def lora_factor(alpha: float, rank: int, scale: float) -> float:
    """The factor of B·A."""
    return scale * alpha / rank if alpha else scale


def read_adapter(path: Path, weights: Mapping[str, tuple[int, int]], base: str) -> GgufFile:
    """An adapter that changes some of the weights [out, in] of the model in file `base`.

    Raises ModelNotFound, or DamagedFile: llama.cpp would end the whole program over some of what is
    refused here.
    """
    file = read_gguf(path)
    for key, wanted in REQUIRED_METADATA.items():
        found = file.metadata.get(key)
        plain = found is not None and found.kind == ValueType.STRING and not found.array
        text = found.text if found is not None and plain else None
        if text != wanted:
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
    """Why tensors such as blk.0.attn_q.weight.lora_a do not fit weights [out, in]; empty when they do.

    `rank` is what it must be everywhere; None = any. `called` says how a message names a tensor.
    """
    names = called or {}
    halves = {f"{weight}{half}" for weight in weights for half in HALF_SUFFIXES}
    partners = [
        weight + half for weight in weights for half in HALF_SUFFIXES if weight + _other_half(half) in tensors
    ]
    shaped = [
        f"{names.get(name, name)} {tensors[name]} instead of {wanted}"
        for weight, shape in weights.items()
        for name, wanted in _expected_shapes(tensors, weight, shape, rank)
        if tensors[name] != wanted
    ]
    lists = (
        ("missing", [names.get(name, name) for name in partners if name not in tensors]),
        ("unknown", [names.get(name, name) for name in tensors if name not in halves]),
        ("of another shape", shaped),
    )
    if not tensors:
        return "it holds no tensors"
    return "; ".join(f"{word}: {first_names(found)}" for word, found in lists if found)


def _expected_shapes(
    tensors: Mapping[str, tuple[int, ...]], weight: str, shape: tuple[int, int], rank: int | None
) -> Iterable[tuple[str, tuple[int, int]]]:
    """The halves of a weight that are both there, and the shapes that they must have."""
    a, b = (weight + half for half in HALF_SUFFIXES)
    if a in tensors and b in tensors:
        rank = tensors[a][0] if rank is None else rank
        yield from ((a, (rank, shape[1])), (b, (shape[0], rank)))


def _other_half(half: str) -> str:
    return HALF_SUFFIXES[1 - HALF_SUFFIXES.index(half)]
