"""Config and tensor names of a LLaMA: Hugging Face → GGUF.

GGUF names and the row order of q and k: llama.cpp, gguf-py `tensor_mapping.py` and the converter
for LlamaForCausalLM. Hugging Face rotates the two halves of a head against each other, ggml
neighbouring rows; reordering the rows of q and k makes both the same model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.atomic import read_limited
from yuegguf.files.kinds import explain_absence, explain_damage
from yuegguf.lm.gguf_header import first_names

from .json_object import MAX_JSON_BYTES, MAX_NUMBER, read_object, shorten

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
"""GGUF names of the two tensors that have one row per piece."""
MAX_LISTED = 40
"""Maximum tensors of a kind in a message."""
MAX_LAYERS = 1024
"""Maximum layers of a config; listing the tensors of more would fill the memory."""


@dataclass(frozen=True)
class LlamaConfig:
    """Contents of the config.json of a LLaMA checkpoint."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    """Number of rows of the embedding, padding included."""
    context: int
    eps: float
    theta: float
    tied: bool
    """The embedding is also the output matrix."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that the config requires."""

    name: str
    """GGUF name."""
    shape: tuple[int, ...]
    rotated: bool = False
    """A q or k projection, whose rows are reordered."""

    @property
    def matrix(self) -> bool:
        """Whether it has two dimensions."""
        return len(self.shape) == 2


def read_config(folder: Path) -> LlamaConfig:
    """Read config.json. Raises ModelNotFound, or DamagedFile for anything but a plain LLaMA."""
    path = folder / "config.json"
    if not path.is_file():
        hint = "pass the folder of a published checkpoint"
        raise explain_absence(path, ModelNotFound(f"there is no config.json in {folder}", hint))
    try:
        values = read_object(
            read_limited(path, MAX_JSON_BYTES, "pass the folder of a published YuE checkpoint")
        )
    except ValueError as error:
        raise explain_damage(path, _damaged(f"is damaged: {error}"), ("json",)) from error
    _refuse_variants(values)
    heads, hidden = _positive_int(values, "num_attention_heads"), _positive_int(values, "hidden_size")
    config = LlamaConfig(
        hidden=hidden,
        layers=_positive_int(values, "num_hidden_layers", most=MAX_LAYERS),
        heads=heads,
        kv_heads=_positive_int(values, "num_key_value_heads", heads),
        head_dim=_positive_int(values, "head_dim", hidden // heads),
        ffn=_positive_int(values, "intermediate_size"),
        vocab=_positive_int(values, "vocab_size"),
        context=_positive_int(values, "max_position_embeddings"),
        eps=_positive_float(values, "rms_norm_eps", 1e-6),
        theta=_positive_float(_rope(values) | values, "rope_theta", 10000.0),
        tied=values.get("tie_word_embeddings", False) is True,
    )
    if config.head_dim % 2 or config.heads % config.kv_heads:
        raise _damaged(
            f"has impossible heads: {config.heads} of {config.head_dim}, {config.kv_heads} for keys"
        )
    return config


def expected_tensors(config: LlamaConfig) -> dict[str, TensorSpec]:
    """Tensors that the checkpoint must hold, by Hugging Face name, in the order of the GGUF."""
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, ffn = config.hidden, config.ffn
    specs = {"model.embed_tokens.weight": TensorSpec(EMBEDDING, (config.vocab, hidden))}
    for i in range(config.layers):
        for theirs, ours, shape in (
            ("input_layernorm", "attn_norm", (hidden,)),
            ("self_attn.q_proj", "attn_q", (q, hidden)),
            ("self_attn.k_proj", "attn_k", (kv, hidden)),
            ("self_attn.v_proj", "attn_v", (kv, hidden)),
            ("self_attn.o_proj", "attn_output", (hidden, q)),
            ("post_attention_layernorm", "ffn_norm", (hidden,)),
            ("mlp.gate_proj", "ffn_gate", (ffn, hidden)),
            ("mlp.up_proj", "ffn_up", (ffn, hidden)),
            ("mlp.down_proj", "ffn_down", (hidden, ffn)),
        ):
            spec = TensorSpec(f"blk.{i}.{ours}.weight", shape, rotated=ours in ("attn_q", "attn_k"))
            specs[f"model.layers.{i}.{theirs}.weight"] = spec
    specs["model.norm.weight"] = TensorSpec("output_norm.weight", (hidden,))
    if not config.tied:
        specs["lm_head.weight"] = TensorSpec(OUTPUT, (config.vocab, hidden))
    return specs


def check_tensors(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, TensorSpec]) -> None:
    """Compare a checkpoint's tensors with the expected ones; the buffer inv_freq is allowed.

    Raises DamagedFile that lists the missing, extra and mis-shaped tensors, MAX_LISTED of each kind.
    """
    missing = [name for name in expected if name not in shapes]
    extra = [n for n in shapes if n not in expected and not n.endswith(".rotary_emb.inv_freq")]
    shaped = [
        f"{name} {shapes[name]} instead of {spec.shape}"
        for name, spec in expected.items()
        if name in shapes and shapes[name] != spec.shape
    ]
    lists = (("missing", missing), ("extra", extra), ("of another shape", shaped))
    complaints = [f"{word}: {first_names(names, MAX_LISTED)}" for word, names in lists if names]
    if complaints:
        raise DamagedFile(
            "the checkpoint does not fit its config.json; " + "; ".join(complaints),
            "download the checkpoint again",
        )


def rope_row_order(rows: int, head_dim: int) -> NDArray[np.int64]:
    """Hugging Face row of each GGUF row of q or k [rows]: a head's halves, interleaved."""
    order = np.arange(rows).reshape(-1, 2, head_dim // 2)
    return np.ascontiguousarray(order.swapaxes(1, 2)).ravel()


def _refuse_variants(values: Mapping[str, Any]) -> None:
    names: Any = values.get("architectures") or [values.get("model_type")]
    if not isinstance(names, list) or names not in (["LlamaForCausalLM"], ["llama"]):
        if "yue2" in str(names).lower():
            what = f"config.json describes {shorten(names)}, a model of YuE2"
            raise DamagedFile(what, "yuegguf runs YuE v1: m-a-p/YuE-s1-… and m-a-p/YuE-s2-1B-general")
        raise _damaged(f"describes {shorten(names)}, not a LlamaForCausalLM")
    if values.get("hidden_act", "silu") != "silu":
        raise _damaged(f"asks for the activation {shorten(values['hidden_act'])}, not silu")
    rope = _rope(values)
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise _damaged(f"asks for a scaled RoPE ({shorten(rope)}), which YuE does not use")
    for key in ("attention_bias", "mlp_bias"):
        if values.get(key):
            raise _damaged(f"asks for biases ({key}), which YuE does not have")


def _rope(values: Mapping[str, Any]) -> dict[str, Any]:
    """rope_scaling of published configs, or rope_parameters as transformers 5 writes them."""
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise _damaged(f"has an unknown RoPE description ({shorten(rope)})")
    return rope


def _positive_int(
    values: Mapping[str, Any], key: str, default: int | None = None, most: int = 2**31 - 1
) -> int:
    value = values.get(key)
    value = default if value is None else value
    if type(value) is not int or not 0 < value <= most:
        raise _damaged(f"has no usable {key} ({shorten(value)})")
    return value


def _positive_float(values: Mapping[str, Any], key: str, default: float) -> float:
    value = values.get(key, default)
    if type(value) not in (int, float) or not 0 < value < MAX_NUMBER:
        raise _damaged(f"has no usable {key} ({shorten(value)})")
    return float(value)


def _damaged(reason: str) -> DamagedFile:
    return DamagedFile(f"config.json {reason}", "pass the folder of a published YuE checkpoint")
