"""YuE's LLaMAs in PyTorch with random weights: transformers' own, and the leanest that one would write."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from yuegguf_convert.llama_tensors import LlamaConfig

NOISE = 1 << 20
"""Random values that are repeated in all weights: drawing six billion takes minutes."""


def their_config(config: LlamaConfig) -> TheirConfig:
    """That shape as transformers names it."""
    return TheirConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=config.vocab,
        hidden_size=config.hidden,
        intermediate_size=config.ffn,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.context,
        rms_norm_eps=config.eps,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        attn_implementation="sdpa",  # type: ignore[call-arg]
    )


def random_model(config: LlamaConfig, dtype: torch.dtype, device: str = "cpu") -> LlamaForCausalLM:
    """A model of that shape, filled with noise in the size of trained weights."""
    theirs = their_config(config)
    with torch.device("meta"):
        model: LlamaForCausalLM = LlamaForCausalLM(theirs).to(dtype)
    model = model.to_empty(device=device).eval()
    model.model.rotary_emb = LlamaRotaryEmbedding(theirs).to(device)
    noise = 0.02 * torch.randn(NOISE, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        for weight in model.parameters():
            flat = weight.view(-1)
            for start in range(0, len(flat), NOISE):
                part = flat[start : start + NOISE]
                part.copy_(noise[: len(part)] if weight.ndim > 1 else torch.ones_like(part))
    return model


class LeanLlama:
    """A LLaMA with KV caches of fixed size, written in place.

    `used` is the number of ids in every row; one call takes the same number of ids for every row.
    """

    def __init__(self, model: LlamaForCausalLM, rows: int, ids: int) -> None:
        self.model, self.config = model.model, model.config
        self.head = model.lm_head
        heads, size = self.config.num_key_value_heads, self.config.hidden_size
        self.head_dim = size // self.config.num_attention_heads
        shape = (self.config.num_hidden_layers, rows, heads, ids, self.head_dim)
        self.keys = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self.values = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self.used = 0

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def __call__(self, ids: Tensor) -> Tensor:
        """Ids [R, N] → the last logits [R, vocab]."""
        rows, count = ids.shape
        x = self.model.embed_tokens(ids)
        places = torch.arange(self.used, self.used + count, device=ids.device)[None]
        cos, sin = self.model.rotary_emb(x, places)
        end = self.used + count
        # with one id nothing has to be masked; a block sees what was before it and itself up to each id
        mask = None if count == 1 else places[0][:, None] >= torch.arange(end, device=ids.device)
        for number, layer in enumerate(self.model.layers):
            own = layer.self_attn
            y = layer.input_layernorm(x)
            query, key, value = (
                made(y).view(rows, count, -1, self.head_dim).transpose(1, 2)
                for made in (own.q_proj, own.k_proj, own.v_proj)
            )
            query, key = (turned(part, cos, sin) for part in (query, key))
            self.keys[number, :rows, :, self.used : end] = key
            self.values[number, :rows, :, self.used : end] = value
            mixed = functional.scaled_dot_product_attention(
                query,
                self.keys[number, :rows, :, :end],
                self.values[number, :rows, :, :end],
                mask,
                enable_gqa=True,
            )
            x = x + own.o_proj(mixed.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.used = end
        return self.head(self.model.norm(x[:, -1]))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys [R, H, N, head_dim] with their positions."""
    left, right = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat([-right, left], -1) * sin[:, None]
