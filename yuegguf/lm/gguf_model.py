"""Header of a YuE language model, checked key by key and tensor by tensor before llama.cpp loads it.

llama.cpp ends the whole process over some values (an epsilon of NaN, a token given twice) and takes memory
for others (2^31 layers). Keys, names and shapes: llama.cpp's `llama` architecture, which YuE is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from yuegguf.errors import DamagedFile
from yuegguf.lm.gguf_header import (
    GgufFile,
    TensorType,
    Value,
    ValueType,
    damaged_gguf,
    first_names,
)
from yuegguf.lm.gguf_parts import read_whole
from yuegguf.lm.vocab import ROLE_KEY, TOKENIZER_KEY

MAX_LAYERS, MAX_WIDTH, MAX_CONTEXT = 512, 1 << 18, 1 << 20
"""llama.cpp's LLAMA_MAX_LAYERS; columns of a weight; ids. YuE has at most 32, 11,008 and 16,384."""
MIN_PIECES = 3
"""Minimum vocabulary: llama.cpp's default special ids are below it."""
_U32, _F32 = ValueType.UINT32, ValueType.FLOAT32
SETTINGS: Mapping[str, tuple[ValueType, float, float]] = {
    "block_count": (_U32, 1, MAX_LAYERS),
    "embedding_length": (_U32, 1, MAX_WIDTH),
    "feed_forward_length": (_U32, 1, MAX_WIDTH),
    "attention.head_count": (_U32, 1, MAX_WIDTH),
    "attention.head_count_kv": (_U32, 1, MAX_WIDTH),
    "attention.key_length": (_U32, 1, MAX_WIDTH),
    "attention.value_length": (_U32, 1, MAX_WIDTH),
    "rope.dimension_count": (_U32, 1, MAX_WIDTH),
    "context_length": (_U32, 1, MAX_CONTEXT),
    "vocab_size": (_U32, 1, 2**31 - 1),
    "attention.layer_norm_rms_epsilon": (_F32, 1e-12, 1.0),
    "rope.freq_base": (_F32, 1.0, 1e9),
}
"""Numbers of the architecture → type, minimum and maximum."""
REQUIRED_SETTINGS = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "context_length",
    "attention.head_count",
    "attention.layer_norm_rms_epsilon",
)
"""Settings that llama.cpp requires of a LLaMA."""
NEUTRAL_SETTINGS: Mapping[str, tuple[object, ...]] = {
    "attention.causal": (1,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scaling.type": (b"none",),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scale_linear": (1.0,),
    "tensor_data_layout": (b"Meta AI original pth",),
}
"""Settings of other tools → values that do not change the model."""
KEY_TYPES: Mapping[str, ValueType] = {
    **{f"general.{key}": ValueType.STRING for key in ("architecture", "type", "name", "license")},
    **{f"general.{key}": ValueType.UINT32 for key in ("file_type", "quantization_version")},
    **{f"tokenizer.{key}": ValueType.STRING for key in ("ggml.model", "ggml.pre", "chat_template")},
    "tokenizer.ggml.token_type_count": ValueType.UINT32,
    **{key: ValueType.STRING for key in (ROLE_KEY, "yuegguf.version", TOKENIZER_KEY)},
    "yuegguf.trimmed": ValueType.BOOL,
}
"""Optional keys outside the architecture → type."""
FLAG_KEY, TOKEN_ID_KEY = (
    re.compile(rf"tokenizer\.ggml\.{name}") for name in (r"(add|remove)_\w+", r"\w+_token_id")
)
PIECES_KEY, SCORES_KEY, TYPES_KEY = (f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type"))
BYTE_TYPE, BYTE_PIECE = 6, re.compile(r"<0x[0-9A-F]{2}>")
"""Token type of byte pieces; llama.cpp reads their value from the name."""
MODEL_HINT = "pass a GGUF made from a YuE checkpoint"


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a LLaMA."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int

    def projections(self) -> dict[str, tuple[int, int]]:
        """Shapes [out, in] of the projections of all layers, by tensor name."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = {
            "attn_q": (q, self.hidden),
            "attn_k": (kv, self.hidden),
            "attn_v": (kv, self.hidden),
            "attn_output": (self.hidden, q),
            "ffn_gate": (self.ffn, self.hidden),
            "ffn_up": (self.ffn, self.hidden),
            "ffn_down": (self.hidden, self.ffn),
        }
        return {f"blk.{i}.{key}.weight": shape for i in range(self.layers) for key, shape in shapes.items()}

    def tensors(self, pieces: int) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor of a model with a vocabulary of `pieces`."""
        norms = [f"blk.{i}.{key}.weight" for i in range(self.layers) for key in ("attn_norm", "ffn_norm")]
        vectors = {name: (self.hidden,) for name in (*norms, "output_norm.weight")}
        matrices = {name: (pieces, self.hidden) for name in ("token_embd.weight", "output.weight")}
        return {**matrices, **vectors, **self.projections()}


@dataclass(frozen=True)
class CheckedModel:
    """Language-model file with a checked header."""

    file: GgufFile
    shape: LlamaShape
    pieces: tuple[str, ...]

    @cached_property
    def metadata(self) -> dict[str, str]:
        """Scalar metadata as text."""
        return {key: value.shown for key, value in self.file.metadata.items() if not value.array}


def read_model(path: Path) -> CheckedModel:
    """Read and check a model's header, of all parts of a split one.

    Raises ModelNotFound, or DamagedFile saying what is wrong.
    """
    return check_model(read_whole(path))


def check_model(file: GgufFile) -> CheckedModel:
    """Check a GGUF as a YuE model. Raises DamagedFile for anything that no YuE model holds."""
    name, metadata = file.path.name, file.metadata
    _check_kinds(name, metadata)
    shape = _shape(name, _settings(name, metadata))
    pieces = _pieces(name, metadata)
    _check_ids(name, metadata, len(pieces))
    _check_tensors(file, shape, len(pieces))
    return CheckedModel(file, shape, pieces)


def _check_kinds(name: str, metadata: Mapping[str, Value]) -> None:
    """Refuse values of a wrong type, and models of another kind."""
    for key, value in metadata.items():
        wanted = ValueType.BOOL if FLAG_KEY.fullmatch(key) else KEY_TYPES.get(key, value.kind)
        if value.kind != wanted or (value.array and (key in KEY_TYPES or FLAG_KEY.fullmatch(key))):
            raise damaged_gguf(name, f"its {key} is no {wanted.name}")
    for key, words in (
        ("general.architecture", ("llama",)),
        ("general.type", ("model", None)),
        ("tokenizer.ggml.model", ("llama",)),
        (ROLE_KEY, ("stage1", "stage2", None)),
    ):
        found = metadata[key].text if key in metadata else None
        if found not in words:
            raise DamagedFile(f"{name} is not a YuE language model: its {key} is {found!r}", MODEL_HINT)
    if TOKENIZER_KEY in metadata and not metadata[TOKENIZER_KEY].data.isascii():
        raise damaged_gguf(name, f"its {TOKENIZER_KEY} is not base64")


def _settings(name: str, metadata: Mapping[str, Value]) -> dict[str, Any]:
    """Numbers of the architecture, by key without its prefix."""
    settings: dict[str, Any] = {}
    for key, value in metadata.items():
        short = key.removeprefix("llama.")
        if short == key or (not value.array and value.data in NEUTRAL_SETTINGS.get(short, ())):
            continue
        if short not in SETTINGS:
            raise damaged_gguf(name, f"it has the setting {key}, which YuE does not have")
        kind, least, most = SETTINGS[short]
        if value.array or value.kind != kind or not least <= value.data <= most:
            raise damaged_gguf(name, f"its {key} is {'a list' if value.array else value.shown[:40]}")
        settings[short] = value.data
    if missing := [f"llama.{key}" for key in REQUIRED_SETTINGS if key not in settings]:
        raise damaged_gguf(name, f"it lacks {first_names(missing)}")
    return settings


def _shape(name: str, settings: Mapping[str, Any]) -> LlamaShape:
    """Sizes of the model. Raises DamagedFile when they are inconsistent."""
    hidden, heads = settings["embedding_length"], settings["attention.head_count"]
    kv_heads = settings.get("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise damaged_gguf(name, f"{heads} heads cannot share {kv_heads} KV heads")
    if "attention.key_length" not in settings and hidden % heads:
        raise damaged_gguf(name, f"{heads} heads do not divide {hidden} columns")
    width = settings.get("attention.key_length", hidden // heads)
    others = [settings.get(key, width) for key in ("attention.value_length", "rope.dimension_count")]
    if width % 2 or others != [width, width]:
        raise damaged_gguf(name, f"its heads have the impossible sizes {width}, {others[0]} and {others[1]}")
    return LlamaShape(
        layers=settings["block_count"],
        hidden=hidden,
        ffn=settings["feed_forward_length"],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width,
        context=settings["context_length"],
    )


def _pieces(name: str, metadata: Mapping[str, Value]) -> tuple[str, ...]:
    """Pieces of the vocabulary. Raises DamagedFile for missing or invalid pieces, scores or types."""
    lists = (PIECES_KEY, ValueType.STRING), (SCORES_KEY, ValueType.FLOAT32), (TYPES_KEY, ValueType.INT32)
    for key, kind in lists:
        value = metadata.get(key)
        if value is None or not value.array or value.kind != kind:
            raise damaged_gguf(name, f"it has no vocabulary: {key} is missing or of another type")
    pieces, (scores, types) = (
        metadata[PIECES_KEY].texts,
        (metadata[key].data for key in (SCORES_KEY, TYPES_KEY)),
    )
    rows = {len(pieces), len(scores), len(types)}
    rows |= {metadata["llama.vocab_size"].data} if "llama.vocab_size" in metadata else set()
    if len(rows) > 1 or len(pieces) < MIN_PIECES:
        raise damaged_gguf(name, f"its token lists are of different lengths or too short ({sorted(rows)})")
    if len(set(pieces)) != len(pieces) or "" in pieces:
        raise damaged_gguf(name, "its vocabulary has a piece twice, or an empty one")
    if not np.isfinite(scores).all() or not ((types >= 1) & (types <= BYTE_TYPE)).all():
        raise damaged_gguf(name, "its vocabulary has an impossible score or type")
    if wrong := [
        pieces[i] for i in np.flatnonzero(types == BYTE_TYPE) if not BYTE_PIECE.fullmatch(pieces[i])
    ]:
        raise damaged_gguf(name, f"its vocabulary calls {first_names(wrong)} a byte")
    return tuple(pieces)


def _check_ids(name: str, metadata: Mapping[str, Value], pieces: int) -> None:
    """Refuse special ids outside the vocabulary."""
    for key, value in metadata.items():
        wrong = value.array or value.kind != ValueType.UINT32 or value.data >= pieces
        if wrong and TOKEN_ID_KEY.fullmatch(key):
            raise damaged_gguf(name, f"its {key} is not one of {pieces} ids")


def _check_tensors(file: GgufFile, shape: LlamaShape, pieces: int) -> None:
    """Refuse tensors that are missing, unknown, or of another shape or type than the model's."""
    wanted, found = shape.tensors(pieces), file.tensors
    both = [key for key in wanted if key in found]
    lists = (
        ("missing", [key for key in wanted if key not in found and key != "output.weight"]),
        ("unknown", [key for key in found if key not in wanted]),
        (
            "of another shape",
            [
                f"{key} {found[key].shape} instead of {wanted[key]}"
                for key in both
                if found[key].shape != wanted[key]
            ],
        ),
        (
            "of another type",
            [
                f"{key} {found[key].kind.name}"
                for key in both
                if len(wanted[key]) == 1 and found[key].kind != TensorType.F32
            ],
        ),
    )
    if complaints := [f"{word}: {first_names(names)}" for word, names in lists if names]:
        raise damaged_gguf(file.path.name, f"its tensors do not fit its settings; {'; '.join(complaints)}")
