"""What has to be known of a language model before it is opened: role, vocabulary, shape, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yuegguf.lm.adapters import Lora, read_adapter
from yuegguf.lm.gguf_model import LlamaShape, read_model
from yuegguf.lm.vocab import check_role, stage1_vocab, stage2_vocab


@dataclass(frozen=True)
class ModelFacts:
    """What has to be known of a language model."""

    bytes: int
    kv_width: int
    """Elements of one id in the cache: 2 · layers · KV heads · head size."""
    heads: int
    n_ctx_train: int
    layers: int = 1


def model_facts(shape: LlamaShape, size: int) -> ModelFacts:
    """The facts of a model in a file of `size` bytes."""
    kv_width = 2 * shape.layers * shape.kv_heads * shape.head_dim
    return ModelFacts(size, kv_width, shape.heads, shape.context, shape.layers)


@dataclass(frozen=True)
class ModelHeader:
    """A GGUF without its weights."""

    path: Path
    pieces: Sequence[str]
    metadata: Mapping[str, str]
    facts: ModelFacts
    shape: LlamaShape


def adapter_bytes(lora: Lora, model: ModelHeader) -> int:
    """An adapter's bytes. Raises ModelNotFound, DamagedFile when it does not fit the model."""
    read_adapter(lora.path, model.shape.projections(), model.path.name)
    return lora.path.stat().st_size


def read_header(path: Path, role: str) -> ModelHeader:
    """A language model's header. Raises ModelNotFound, DamagedFile when it is not of this role."""
    model = read_model(path)
    metadata = model.metadata
    check_role(metadata, role, path.name)
    stage1_vocab(model.pieces) if role == "stage1" else stage2_vocab(model.pieces)
    return ModelHeader(
        path, model.pieces, metadata, model_facts(model.shape, path.stat().st_size), model.shape
    )
