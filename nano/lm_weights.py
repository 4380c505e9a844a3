"""Seeded random LLaMA checkpoints in the published folder layout, streamed to disk.

Every value is an integer of the raw PCG64 stream times a float32, so a seed gives the same bytes on
every machine, and a checkpoint of many gigabytes needs a few megabytes of memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from yuegguf_convert.dtypes import round_bf16

Dtype = Literal["BF16", "F16", "F32"]
NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}
BLOCK = 1 << 20
"""Values drawn at once."""
LOGIT_STD = 3.0
"""Spread of the logits over all pieces: sampling stays varied and every code keeps a chance."""
UNIFORM = sqrt(3.0) / 32768
"""Makes 16-bit integers a uniform variable of standard deviation 1."""


@dataclass(frozen=True)
class LlamaSpec:
    """The size of a LLaMA."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    """Rows of the embedding; at least the tokenizer's pieces."""
    context: int
    """16384 marks stage 1, 8192 stage 2; any other size needs the role at conversion."""
    tied: bool = False
    theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """Columns of one head."""
        return self.hidden // self.heads


@dataclass(frozen=True)
class Drawn:
    """One tensor to draw: uniform values of a given spread around a mean."""

    name: str
    shape: tuple[int, ...]
    std: float
    mean: float = 0.0


def write_llama(
    folder: Path,
    spec: LlamaSpec,
    seed: int,
    tokenizer: bytes,
    *,
    dtype: Dtype = "BF16",
    shards: int = 1,
) -> None:
    """Write config.json, generation_config.json, tokenizer.model and the weights into `folder`.

    `shards` > 1 writes that many files and the index. The values depend on `seed`, `spec` and
    `dtype` alone, not on `shards`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(spec, dtype), indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}) + "\n")
    (folder / "tokenizer.model").write_bytes(tokenizer)
    tensors = list(enumerate(tensors_of(spec)))
    if shards == 1:
        _write_file(folder / "model.safetensors", tensors, seed, dtype)
        return
    weight_map = {}
    for k in range(shards):
        part = tensors[k * len(tensors) // shards : (k + 1) * len(tensors) // shards]
        name = f"model-{k + 1:05d}-of-{shards:05d}.safetensors"
        _write_file(folder / name, part, seed, dtype)
        weight_map |= {tensor.name: name for _, tensor in part}
    size = sum(prod(tensor.shape) for _, tensor in tensors) * WIDTHS[dtype]
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def tensors_of(spec: LlamaSpec) -> list[Drawn]:
    """All tensors in file order, with spreads that keep activations near 1 and use the context."""
    hidden, kv = spec.hidden, spec.kv_heads * spec.head_dim
    wide, narrow = 1 / sqrt(hidden), 1 / sqrt(spec.ffn)
    found = [Drawn("model.embed_tokens.weight", (spec.vocab, hidden), LOGIT_STD * wide if spec.tied else 1.0)]
    for i in range(spec.layers):
        at = f"model.layers.{i}."
        found += [
            Drawn(at + "input_layernorm.weight", (hidden,), 0.1, 1.0),
            Drawn(at + "self_attn.q_proj.weight", (hidden, hidden), 1.5 * wide),
            Drawn(at + "self_attn.k_proj.weight", (kv, hidden), 1.5 * wide),
            Drawn(at + "self_attn.v_proj.weight", (kv, hidden), 1.5 * wide),
            Drawn(at + "self_attn.o_proj.weight", (hidden, hidden), 1.5 * wide),
            Drawn(at + "post_attention_layernorm.weight", (hidden,), 0.1, 1.0),
            Drawn(at + "mlp.gate_proj.weight", (spec.ffn, hidden), 1.5 * wide),
            Drawn(at + "mlp.up_proj.weight", (spec.ffn, hidden), wide),
            Drawn(at + "mlp.down_proj.weight", (hidden, spec.ffn), narrow),
        ]
    found.append(Drawn("model.norm.weight", (hidden,), 0.1, 1.0))
    if not spec.tied:
        found.append(Drawn("lm_head.weight", (spec.vocab, hidden), LOGIT_STD * wide))
    return found


def draw(tensor: Drawn, number: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """The values of a tensor as float32, block by block; `number` is its place in the file."""
    stream = np.random.PCG64([seed, number])
    left = prod(tensor.shape)
    scale, mean = np.float32(tensor.std * UNIFORM), np.float32(tensor.mean)
    while left:
        count = min(left, BLOCK)
        whole = stream.random_raw(-(-count // 4)).astype("<u8").view("<i2")[:count]
        yield whole.astype(np.float32) * scale + mean
        left -= count


def _write_file(path: Path, tensors: Sequence[tuple[int, Drawn]], seed: int, dtype: Dtype) -> None:
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for _, tensor in tensors:
        start, end = end, end + prod(tensor.shape) * WIDTHS[dtype]
        header[tensor.name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for number, tensor in tensors:
            for values in draw(tensor, number, seed):
                _store(file, values, dtype)


def _store(file: BinaryIO, values: NDArray[np.float32], dtype: Dtype) -> None:
    if dtype == "BF16":
        file.write(round_bf16(values).astype("<u2").data)
    else:
        file.write(values.astype("<f2" if dtype == "F16" else "<f4").data)


def config(spec: LlamaSpec, dtype: Dtype) -> dict[str, object]:
    """The published config.json with this size."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "hidden_size": spec.hidden,
        "intermediate_size": spec.ffn,
        "max_position_embeddings": spec.context,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": spec.heads,
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.kv_heads,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": spec.theta,
        "tie_word_embeddings": spec.tied,
        "torch_dtype": NAMES[dtype],
        "vocab_size": spec.vocab,
    }
