"""A LLaMA as torch modules under the published key names, and its checkpoint folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from nano.lm_weights import LlamaSpec, config

EPSILON = 1e-5


class Norm(nn.Module):
    """Root-mean-square normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[…, D] → the same shape."""
        return functional.rms_norm(x, self.weight.shape, self.weight, EPSILON)


def rotation(length: int, spec: LlamaSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, head_dim] of the rotary positions from 0."""
    rate = spec.theta ** (-torch.arange(0, spec.head_dim, 2, device=device) / spec.head_dim)
    angle = torch.arange(length, device=device)[:, None] * rate
    return torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys [B, H, T, head_dim] turned by their positions; halves are the pairs."""
    left, right = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-right, left], -1) * turn[1]


class Attention(nn.Module):
    """Causal attention with grouped keys and values."""

    def __init__(self, spec: LlamaSpec) -> None:
        super().__init__()
        self.spec = spec
        narrow = spec.kv_heads * spec.head_dim
        self.q_proj = nn.Linear(spec.hidden, spec.hidden, bias=False)
        self.k_proj = nn.Linear(spec.hidden, narrow, bias=False)
        self.v_proj = nn.Linear(spec.hidden, narrow, bias=False)
        self.o_proj = nn.Linear(spec.hidden, spec.hidden, bias=False)

    def parts(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x [B, T, D], each [B, heads, T, head_dim]."""
        b, t, _ = x.shape
        made = (layer(x).view(b, t, -1, self.spec.head_dim).transpose(1, 2) for layer in self._inputs())
        queries, keys, values = made
        groups = self.spec.heads // self.spec.kv_heads
        keys, values = (part.repeat_interleave(groups, 1) for part in (rotate(keys, turn), values))
        return rotate(queries, turn).to(values.dtype), keys.to(values.dtype), values

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] → the same shape; also the queries and keys of all heads [B, heads, T, head_dim]."""
        queries, keys, values = self.parts(x, turn)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), queries, keys

    def _inputs(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q_proj, self.k_proj, self.v_proj


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, spec: LlamaSpec) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(spec.hidden, spec.ffn, bias=False)
        self.up_proj = nn.Linear(spec.hidden, spec.ffn, bias=False)
        self.down_proj = nn.Linear(spec.ffn, spec.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → the same shape."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward, each after its own norm and added to its input."""

    def __init__(self, spec: LlamaSpec) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(spec.hidden), Norm(spec.hidden)
        self.self_attn, self.mlp = Attention(spec), FeedForward(spec)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] → the same shape; also the queries and keys of all heads."""
        mixed, query, key = self.self_attn(self.input_layernorm(x), turn)
        x = x + mixed
        return x + self.mlp(self.post_attention_layernorm(x)), query, key


class Trunk(nn.Module):
    """Embedding, layers, last norm."""

    def __init__(self, spec: LlamaSpec) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(spec.vocab, spec.hidden)
        self.layers = nn.ModuleList(Layer(spec) for _ in range(spec.layers))
        self.norm = Norm(spec.hidden)


class Llama(nn.Module):
    """`model` and `lm_head`, as transformers names them."""

    def __init__(self, spec: LlamaSpec) -> None:
        super().__init__()
        self.spec = spec
        self.model = Trunk(spec)
        self.lm_head = nn.Linear(spec.hidden, spec.vocab, bias=False)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.ndim == 2:
                    weight.normal_(0, spec.hidden**-0.5)
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    weight *= (2 * spec.layers) ** -0.5

    def forward(
        self, ids: Tensor, watch: Callable[[int, Tensor, Tensor, Tensor], None] | None = None
    ) -> Tensor:
        """Ids [B, T] → what the head reads [B, T, D].

        `watch` is shown every layer's number, output, and its heads' queries and keys.
        """
        turn = rotation(ids.shape[1], self.spec, ids.device)
        x = self.model.embed_tokens(ids)
        for number, layer in enumerate(self.model.layers):
            x, query, key = layer(x, turn)
            if watch:
                watch(number, x, query, key)
        return self.model.norm(x)


def write(folder: Path, model: Llama, tokenizer: bytes) -> None:
    """The checkpoint as published: config, tokenizer and weights in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(model.spec, "F32"), indent=2) + "\n")
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}) + "\n")
    (folder / "tokenizer.model").write_bytes(tokenizer)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def rows(values: np.ndarray, device: str) -> Tensor:
    """An integer array as a tensor of indices."""
    return torch.from_numpy(values.astype(np.int64)).to(device)
