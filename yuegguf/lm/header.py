"""Header of a language model, read before it is opened: role, vocabulary, shape, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yuegguf.lm.adapters import Lora, read_adapter
from yuegguf.lm.gguf_model import LlamaShape, read_model
from yuegguf.lm.gguf_parts import model_bytes
from yuegguf.lm.vocab import check_role, stage1_vocab, stage2_vocab


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of a language model that determine its memory."""

    bytes: int
    """Size of the file."""
    kv_width: int
    """Elements of the KV cache per id: 2 · layers · KV heads · head size."""
    heads: int
    n_ctx_train: int
    layers: int = 1


def model_facts(shape: LlamaShape, size: int) -> ModelFacts:
    """Sizes of a model in a file of `size` bytes."""
    kv_width = 2 * shape.layers * shape.kv_heads * shape.head_dim
    return ModelFacts(size, kv_width, shape.heads, shape.context, shape.layers)


@dataclass(frozen=True)
class ModelHeader:
    """Metadata, vocabulary and sizes of a model file."""

    path: Path
    pieces: Sequence[str]
    metadata: Mapping[str, str]
    facts: ModelFacts
    shape: LlamaShape


def adapter_bytes(lora: Lora, model: ModelHeader) -> int:
    """Size of an adapter file in bytes. Raises ModelNotFound, DamagedFile when it does not fit the model."""
    read_adapter(lora.path, model.shape.projections(), model.path.name)
    return lora.path.stat().st_size


def read_header(path: Path, role: str) -> ModelHeader:
    """Read a language model's header. Raises ModelNotFound, DamagedFile when it has another role."""
    model = read_model(path)
    metadata = model.metadata
    check_role(metadata, role, path.name)
    stage1_vocab(model.pieces) if role == "stage1" else stage2_vocab(model.pieces)
    return ModelHeader(path, model.pieces, metadata, model_facts(model.shape, model_bytes(path)), model.shape)
