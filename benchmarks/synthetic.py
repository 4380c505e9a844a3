"""GGUF files of any LLaMA shape with random weights, written in seconds and never held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

BLOCKS = {"Q4_0": (gguf.GGMLQuantizationType.Q4_0, 18), "Q8_0": (gguf.GGMLQuantizationType.Q8_0, 34)}
"""Type → (ggml type, bytes of a block of 32 weights: a half-precision scale, then the values)."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a LLaMA."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    context: int
    text: int = 32000
    """Text pieces; specials and codebooks follow."""
    codebooks: int = 1


STAGE1_1B = Shape(hidden=4096, layers=6, heads=32, kv_heads=4, ffn=11008, context=16384)
"""YuE's stage 1 with 6 of its 32 layers and its vocabulary trimmed: 1.31 billion weights."""


def tensors(shape: Shape) -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of every matrix."""
    vocab, kv = len(pieces(shape)), shape.hidden // shape.heads * shape.kv_heads
    yield "token_embd.weight", vocab, shape.hidden
    yield "output.weight", vocab, shape.hidden
    for i in range(shape.layers):
        for name, rows, columns in (
            ("attn_q", shape.hidden, shape.hidden),
            ("attn_k", kv, shape.hidden),
            ("attn_v", kv, shape.hidden),
            ("attn_output", shape.hidden, shape.hidden),
            ("ffn_gate", shape.ffn, shape.hidden),
            ("ffn_up", shape.ffn, shape.hidden),
            ("ffn_down", shape.hidden, shape.ffn),
        ):
            yield f"blk.{i}.{name}.weight", rows, columns


def weights(shape: Shape) -> int:
    """How many weights the matrices have."""
    return sum(rows * columns for _, rows, columns in tensors(shape))


def pieces(shape: Shape) -> list[str]:
    """A vocabulary in YuE's layout."""
    base = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁[", "▁"]
    filler = [f"t{i}" for i in range(shape.text - len(base))]
    special = ["<EOD>", "<SOA>", "<EOA>", "<stage_1>", "<xcodec>", "<stage_2>"]
    return [
        *base,
        *filler,
        *special,
        *(f"<xcodec/{k}/{c}>" for k in range(shape.codebooks) for c in range(1024)),
    ]


def write(path: Path, shape: Shape, kind: str = "Q4_0", seed: int = 0) -> None:
    """Write the file; one block of random bytes is repeated, scales are small."""
    writer = gguf.GGUFWriter(path, "llama")
    _metadata(writer, shape)
    ggml_type, block = BLOCKS[kind]
    norms = [f"blk.{i}.{name}_norm.weight" for i in range(shape.layers) for name in ("attn", "ffn")]
    for name in [*norms, "output_norm.weight"]:
        writer.add_tensor_info(name, [shape.hidden], np.dtype(np.float32), 4 * shape.hidden)
    for name, rows, columns in tensors(shape):
        row = columns // 32 * block
        writer.add_tensor_info(name, [rows, row], np.dtype(np.uint8), rows * row, raw_dtype=ggml_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in [*norms, "output_norm.weight"]:
        writer.write_tensor_data(np.ones(shape.hidden, np.float32))
    noise = _blocks(np.random.default_rng(seed), block)
    for _, rows, columns in tensors(shape):
        writer.write_tensor_data(np.resize(noise, (rows, columns // 32 * block)))
    writer.close()


def _blocks(random: np.random.Generator, block: int, count: int = 100_003) -> np.ndarray:
    """Random quantised blocks with scales that keep activations near one."""
    data = random.integers(0, 256, (count, block), np.uint8)
    scales = random.uniform(-0.003, 0.003, count).astype(np.float16)
    data[:, :2] = scales.view(np.uint8).reshape(count, 2)
    return data.ravel()


def _metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    names = pieces(shape)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_vocab_size(len(names))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores([0.0] * len(names))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(names) - 259)])
