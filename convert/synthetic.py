"""Random GGUFs of YuE's real shapes, to measure speed and memory without a download.

Speed depends on shapes and number types, not on values. llama.cpp quantises a model of the same layers
and minute widths; its types are taken for the large tensors, and its blocks are repeated in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from gguf import TokenType
from numpy.typing import NDArray

from yuegguf.lm.vocab import StageRole

from .gguf_file import GgufFile, Tensor, TensorType, write_gguf
from .llama_tensors import EMBEDDING, OUTPUT, LlamaConfig, TensorSpec, expected_tensors
from .lm import lm_metadata
from .quantize import check_type, quantize_thin
from .target import check_free, partial_file, scratch_file
from .tokenizer_pieces import APPENDED, CODEBOOK_SIZE, CODEBOOKS, Vocab
from .trim import used_ids

_SHARED: dict[str, Any] = {"layers": 32, "head_dim": 128, "eps": 1e-5, "theta": 10000.0, "tied": False}
SHAPES: dict[StageRole, LlamaConfig] = {
    "stage1": LlamaConfig(
        hidden=4096, heads=32, kv_heads=4, ffn=11008, vocab=83968, context=16384, **_SHARED
    ),
    "stage2": LlamaConfig(hidden=2048, heads=16, kv_heads=16, ffn=5504, vocab=83840, context=8192, **_SHARED),
}
"""The configs of the published checkpoints."""
TEXT_PIECES = 32000
SUPER_BLOCK = 256
"""Columns of llama.cpp's largest blocks; the remainder of a row decides which types fit."""
THIN_COLUMNS, THIN_ROWS = 2 * SUPER_BLOCK, 64
"""About the columns of a thin model's matrices, and the rows of its vocabulary."""
BLOCK_BYTES = 8 << 20
"""Bytes written at a time."""


def write_synthetic(
    out: Path,
    role: StageRole,
    out_type: str,
    *,
    config: LlamaConfig | None = None,
    trim: bool = True,
    seed: int = 0,
) -> Path:
    """Write a random model of a stage to `out` as `out_type`, and return `out`.

    `config` is the published shape unless given. The file has the size, the types and the token list
    of a converted checkpoint, but no tokenizer. Raises RequestError for an unknown type, StorageError.
    """
    name = check_type(out_type)
    check_free(out, overwrite=False)
    shape = config or SHAPES[role]
    vocab = _vocab(shape.vocab)
    kept = used_ids(vocab.pieces, vocab.types, role, "the synthetic vocabulary") if trim else None
    metadata = lm_metadata(shape, vocab, role, name, kept)
    with scratch_file(out) as exact, scratch_file(out) as thin:
        _write_thin(exact, _thin(shape), seed)
        model = quantize_thin(exact, thin, name)
        rows = len(kept) if kept is not None else shape.vocab
        tensors = [
            Tensor(want.name, model.tensors[want.name].kind, _shape_for(want, rows))
            for want in expected_tensors(shape).values()
        ]
        with partial_file(out) as partial:
            write_gguf(partial, metadata, tensors, _Repeater(model).blocks)
    return out


def _shape_for(want: TensorSpec, pieces: int) -> tuple[int, ...]:
    """Shape of a tensor in a model with a vocabulary of `pieces`."""
    return (pieces, want.shape[1]) if want.name in (EMBEDDING, OUTPUT) else want.shape


class _Repeater:
    """Fills large tensors with the blocks of a thin model."""

    def __init__(self, model: GgufFile) -> None:
        self.model = model
        self.patterns: dict[TensorType, NDArray[np.uint8]] = {}

    def blocks(self, tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        """Bytes of one tensor, in parts."""
        pattern = self._pattern(tensor)
        for start in range(0, tensor.size, pattern.size):
            yield pattern[: tensor.size - start]

    def _pattern(self, tensor: Tensor) -> NDArray[np.uint8]:
        """Whole blocks of the tensor's type, about BLOCK_BYTES; all norms are ones."""
        if len(tensor.shape) == 1:
            return np.ones(tensor.shape, np.float32).view(np.uint8)
        if tensor.kind not in self.patterns:
            thin = self.model.tensors[tensor.name]
            blocks = self.model.read(thin, 0, thin.rows).ravel()
            self.patterns[tensor.kind] = np.tile(blocks, max(1, BLOCK_BYTES // blocks.size))
        return self.patterns[tensor.kind]


def _thin(config: LlamaConfig) -> LlamaConfig:
    """Config of few columns, with equal layers and ratio of heads, so that llama.cpp chooses equal types."""
    heads = config.heads // config.kv_heads
    hidden = THIN_COLUMNS + config.hidden % SUPER_BLOCK
    return replace(
        config,
        hidden=hidden,
        heads=heads,
        kv_heads=1,
        head_dim=hidden // heads,
        ffn=THIN_COLUMNS + config.ffn % SUPER_BLOCK,
        vocab=THIN_ROWS,
    )


def _write_thin(path: Path, config: LlamaConfig, seed: int) -> None:
    """Normal weights in float16, scaled so that activations keep their size."""
    draws = np.random.default_rng(seed)

    def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        if len(tensor.shape) == 1:
            yield np.ones(tensor.shape, np.float32).view(np.uint8)
        else:
            values = draws.standard_normal(tensor.shape, np.float32) / sqrt(tensor.shape[-1])
            yield values.astype(np.float16).view(np.uint8).ravel()

    kinds = {1: TensorType.F32, 2: TensorType.F16}
    tensors = [Tensor(w.name, kinds[len(w.shape)], w.shape) for w in expected_tensors(config).values()]
    names = [f"t{i}" for i in range(config.vocab)]
    nothing = Vocab(names, np.zeros(len(names), np.float32), np.ones(len(names), np.int32), {}, b"")
    write_gguf(path, lm_metadata(config, nothing, "stage1", "F16", None), tensors, blocks)


def _vocab(rows: int) -> Vocab:
    """Vocabulary with YuE's special and code pieces, placeholder text and padding."""
    text = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁["]
    text += [f"t{i}" for i in range(TEXT_PIECES - len(text))]
    codes = [f"<xcodec/{k}/{c}>" for k in range(CODEBOOKS) for c in range(CODEBOOK_SIZE)]
    used = [*text, *APPENDED, *codes]
    pieces = used + [f"<semantic/a/{i}>" for i in range(rows - len(used))]
    types = np.full(rows, TokenType.NORMAL, np.int32)
    types[:3], types[3:259] = (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL), TokenType.BYTE
    return Vocab(pieces, np.zeros(rows, np.float32), types, {}, b"")
