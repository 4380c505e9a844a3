"""HuBERT base, the semantic half of X-Codec's encoder (`semantic_model`, transformers' HubertModel).

Convolutions over the wave with one normalisation over the whole length, then a post-norm transformer that
attends over every frame: the wave is encoded whole and cannot be split into windows.
"""

from __future__ import annotations

import numpy as np
import spox.opset.ai.onnx.v17 as op
from spox import Var

from .layers import Layers, gelu, ints, length, scalar, to_channels, to_time, width

STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""conv_stride of HubertConfig, which no weight shows; 320 samples a frame."""
QUERY_BLOCK = 512
"""Queries per attention step. A row of attention needs no other row, so blocks change nothing but memory:
a four-minute file needs 0.3 GiB a layer instead of 6.5."""

_EPSILON = 1e-5
_P = "semantic_model."


def heads_of(hidden: int) -> int:
    """Attention heads, which no weight shows: 64 wide as in every HuBERT, else HubertConfig's default."""
    return hidden // 64 if hidden % 64 == 0 else 12


def mean_of_hidden_states(g: Layers, wave: Var, heads: int | None = None) -> Var:
    """Wave [1, 1, S] → the mean of the embedding and of every layer's output, [T, hidden]."""
    x = _positions(g, _features(g, wave))
    x = total = g.layer_norm(x, _P + "encoder.layer_norm", _EPSILON)
    layers = g.weights.count(_P + "encoder.layers")
    heads = heads or heads_of(width(x, 1))
    if width(x, 1) % heads:
        raise g.weights.damaged(f"HuBERT's width {width(x, 1)} cannot be split into {heads} heads")
    blocks = _Blocks(x, heads)
    for i in range(layers):
        x = _layer(g, x, f"{_P}encoder.layers.{i}", blocks)
        total = op.add(total, x)
    return op.div(total, scalar(layers + 1))


def _features(g: Layers, wave: Var) -> Var:
    """Wave [1, 1, S] → [T, hidden]: seven convolutions without bias, LayerNorm, projection."""
    x = wave
    stack = _P + "feature_extractor.conv_layers"
    if g.weights.count(stack) != len(STRIDES):
        raise g.weights.damaged(f"HuBERT has {g.weights.count(stack)} convolutions, expected {len(STRIDES)}")
    for i, stride in enumerate(STRIDES):
        x = g.conv(x, f"{stack}.{i}.conv", stride=stride, pad=0, bias=False)
        if i == 0:  # a group per channel: GroupNorm(C, C) is InstanceNorm
            scale, bias = (g.vector(f"{stack}.0.layer_norm.{p}", width(x, 1)) for p in ("weight", "bias"))
            x = op.instance_normalization(x, scale, bias, epsilon=_EPSILON)
        x = gelu(x)
    x = g.layer_norm(to_channels(x), _P + "feature_projection.layer_norm", _EPSILON)
    return g.linear(x, _P + "feature_projection.projection")


def _positions(g: Layers, x: Var) -> Var:
    """Add the convolutional position embedding; its weight norm runs over axis 2, unlike all others."""
    module = _P + "encoder.pos_conv_embed.conv"
    kernel = g.weights.weight(module, width(x, 1), None, None, norm_axis=2)
    groups = width(x, 1) // kernel.shape[1]
    if kernel.shape[1] == 0 or width(x, 1) % kernel.shape[1]:
        raise g.weights.damaged(f"{module} cannot be split into groups of {kernel.shape[1]}")
    y = g.conv(to_time(x), module, out=width(x, 1), pad=kernel.shape[2] // 2, groups=groups, norm_axis=2)
    if kernel.shape[2] % 2 == 0:  # an even kernel gives one frame too many
        y = op.slice(y, ints(0), ints(-1), ints(2))
    return op.add(x, to_channels(gelu(y)))


def _layer(g: Layers, x: Var, module: str, blocks: _Blocks) -> Var:
    hidden = width(x, 1)
    q, k, v = (g.linear(x, f"{module}.attention.{part}_proj", hidden) for part in "qkv")
    y = g.linear(blocks.attention(q, k, v), f"{module}.attention.out_proj", hidden)
    x = g.layer_norm(op.add(x, y), f"{module}.layer_norm", _EPSILON)
    y = gelu(g.linear(x, f"{module}.feed_forward.intermediate_dense"))
    y = g.linear(y, f"{module}.feed_forward.output_dense", hidden)
    return g.layer_norm(op.add(x, y), f"{module}.final_layer_norm", _EPSILON)


class _Blocks:
    """Softmax attention on [T, hidden], computed for a block of queries at a time."""

    def __init__(self, x: Var, heads: int) -> None:
        frames = length(x, 0)
        self._frames = frames
        self._count = _ceil_div(frames, ints(QUERY_BLOCK))
        self._size = _ceil_div(frames, self._count)
        padded = op.mul(self._count, self._size)
        self._pads = op.concat([ints(0, 0), op.sub(padded, frames), ints(0)], axis=0)
        head = width(x, 1) // heads
        self._split = op.concat([self._count, self._size, ints(heads, head)], axis=0)
        self._heads = ints(0, heads, head)
        self._merged = ints(-1, width(x, 1))
        self._scale = scalar(head**-0.5)

    def attention(self, q: Var, k: Var, v: Var) -> Var:
        keys = op.transpose(op.reshape(k, self._heads), perm=[1, 2, 0])
        values = op.transpose(op.reshape(v, self._heads), perm=[1, 0, 2])
        rows = op.pad(op.mul(q, self._scale), self._pads)
        rows = op.transpose(op.reshape(rows, self._split), perm=[0, 2, 1, 3])

        def block(queries: Var) -> list[Var]:
            return [op.matmul(op.softmax(op.matmul(queries, keys), axis=-1), values)]

        (out,) = op.scan([rows], body=block, num_scan_inputs=1)
        out = op.reshape(op.transpose(out, perm=[0, 2, 1, 3]), self._merged)
        out = op.slice(out, ints(0), self._frames, ints(0))
        return op.reshape(out, self._merged)  # restores the static width for shape inference


def _ceil_div(a: Var, b: Var) -> Var:
    return op.div(op.sub(op.add(a, b), op.const(np.array([1], np.int64))), b)
