"""X-Codec as two graphs: wave → codes and codes → wave (`soundstream_hubert_new.py` of xcodec_mini_infer).

The acoustic half is the Descript codec's encoder and decoder, without tanh and with output padding for odd
strides. Both graphs take everything from the weights: widths, layer counts, and strides from kernel sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
import spox.opset.ai.onnx.v17 as op
from spox import Tensor, Var, argument

from yuegguf.codec.protocol import CODEBOOKS, CODEC_HOP

from .hubert import mean_of_hidden_states
from .layers import Layers, ints, length, stride_of, to_channels, to_time, width
from .weights import Floats, Weights

Conv = tuple[int, int, int]
"""Kernel, stride and padding of a convolution that changes the length."""


def codebooks(weights: Weights) -> Floats:
    """The codebooks that YuE uses, [CODEBOOKS, bins, D]."""
    names = [f"quantizer.vq.layers.{k}._codebook.embed" for k in range(CODEBOOKS)]
    first = weights.array(names[0], None, None)
    return np.stack([first, *(weights.array(name, *first.shape) for name in names[1:])])


def encoder(weights: Weights, heads: int | None = None) -> onnx.ModelProto:
    """Graph `wave` float32 [S] → `codes` int64 [8, T], T = floor((S + 240) / 320).

    `heads` overrides HuBERT's attention heads (see hubert.heads_of).
    """
    g = Layers(weights)
    wave = argument(Tensor(np.float32, ("samples",)))
    half = CODEC_HOP // 2
    semantic = mean_of_hidden_states(g, _channel(op.pad(wave, ints(half, half))), heads)
    aligned = _aligned(wave, length(semantic, 0), _acoustic_convs(weights))
    acoustic = _acoustic_encoder(g, _channel(aligned))
    joined = op.concat([acoustic, _semantic_encoder(g, to_time(semantic))], axis=1)
    features = g.linear(to_channels(joined), "fc_prior")
    return g.model({"wave": wave}, {"codes": _quantise(g, features)})


def decoder(weights: Weights) -> onnx.ModelProto:
    """Graph `codes` int64 [K, T], 1 ≤ K ≤ 8 → `wave` float32 [320·T] at 16 kHz."""
    g = Layers(weights)
    codes = argument(Tensor(np.int64, ("codebooks", "frames")))
    x = to_time(g.linear(embedding(g, codes, codebooks(weights)), "fc_post2"))
    return g.model({"codes": codes}, {"wave": _acoustic_decoder(g, x)})


def embedding(g: Layers, codes: Var, tables: Floats) -> Var:
    """Codes [K, T] → the sum of their codebook rows, [T, D]."""
    books, bins, dim = tables.shape
    table = g.param("codebooks", tables.reshape(books * bins, dim))
    numbers = op.range(op.const(np.int64(0)), op.squeeze(length(codes, 0), ints(0)), op.const(np.int64(1)))
    offsets = op.unsqueeze(op.mul(numbers, ints(bins)), ints(1))
    return op.reduce_sum(op.gather(table, op.add(codes, offsets)), ints(0), keepdims=0)


def _aligned(wave: Var, frames: Var, convs: Iterable[Conv]) -> Var:
    """Pad the wave by half a frame on both sides if the acoustic encoder would give too few frames.

    That is so for S mod 320 in 80 … 311; the acoustic frames then come from the shifted wave, as upstream.
    """
    count = length(wave, 0)
    for kernel, stride, pad in convs:
        count = op.add(op.div(op.add(count, ints(2 * pad - kernel)), ints(stride)), ints(1))
    edge = op.where(op.equal(count, frames), ints(0), ints(CODEC_HOP // 2))
    return op.pad(wave, op.concat([edge, edge], axis=0))


def _channel(wave: Var) -> Var:
    """[S] → [1, 1, S]."""
    return op.unsqueeze(wave, ints(0, 1))


def _acoustic_convs(weights: Weights) -> list[Conv]:
    """The strided convolutions of the acoustic encoder; all others keep the length."""
    convs = []
    for i in range(1, weights.count("encoder.block", "block", 1) + 1):
        block = f"encoder.block.{i}.block"
        module = f"{block}.{weights.count(block, 'block') + 1}"  # after the residual units and a snake
        kernel = weights.weight(module, None, None, None).shape[2]
        stride = stride_of(weights, module, kernel)
        convs.append((kernel, stride, (stride + 1) // 2))
    _check_hop(weights, "encoder", [stride for _, stride, _ in convs])
    return convs


def _acoustic_encoder(g: Layers, x: Var) -> Var:
    x = g.conv(x, "encoder.block.0")
    convs = _acoustic_convs(g.weights)
    for i, (_, stride, pad) in enumerate(convs, 1):
        block = f"encoder.block.{i}.block"
        units = g.weights.count(block, "block")
        for j in range(units):
            x = g.residual_unit(x, f"{block}.{j}", 3**j)
        x = g.conv(g.snake(x, f"{block}.{units}"), f"{block}.{units + 1}", stride=stride, pad=pad)
    last = len(convs) + 1
    return g.conv(g.snake(x, f"encoder.block.{last}"), f"encoder.block.{last + 1}")


def _acoustic_decoder(g: Layers, x: Var) -> Var:
    """[1, D, T] → wave [320·T]."""
    x = g.conv(x, "decoder_2.model.0")
    blocks = g.weights.count("decoder_2.model", "block", 1)
    strides = []
    for i in range(1, blocks + 1):
        block = f"decoder_2.model.{i}.block"
        x, stride = g.conv_transpose(g.snake(x, f"{block}.0"), f"{block}.1")
        strides.append(stride)
        for j in range(g.weights.count(block, "block", 2)):
            x = g.residual_unit(x, f"{block}.{j + 2}", 3**j)
    _check_hop(g.weights, "decoder", strides)
    x = g.conv(g.snake(x, f"decoder_2.model.{blocks + 1}"), f"decoder_2.model.{blocks + 2}", out=1)
    return op.squeeze(x, ints(0, 1))


def _semantic_encoder(g: Layers, x: Var) -> Var:
    """[1, hidden, T] → [1, hidden, T]: convolution, then blocks of residual units and a convolution."""
    x = g.conv(x, "encoder_semantic.conv.conv", bias=False)
    for i in range(g.weights.count("encoder_semantic.conv_blocks")):
        block = f"encoder_semantic.conv_blocks.{i}"
        for j in range(g.weights.count(f"{block}.res_units")):
            unit = f"{block}.res_units.{j}"
            y = g.conv(op.elu(x), f"{unit}.conv1.conv", bias=False)
            x = op.add(x, g.conv(op.elu(y), f"{unit}.conv2", out=width(x, 1), bias=False))
        x = g.conv(x, f"{block}.conv.conv")
    return x


def _quantise(g: Layers, x: Var) -> Var:
    """Residual vector quantisation of [T, D]: per codebook the nearest row, then the rest; codes [8, T].

    |x − e|² is smallest where x·e − |e|²/2 is largest, one matrix product per codebook.
    """
    tables = codebooks(g.weights)
    if tables.shape[2] != width(x, 1):
        raise g.weights.damaged(f"codebooks are {tables.shape[2]} wide, the encoder {width(x, 1)}")
    rows = []
    for k, table in enumerate(tables):
        half = -0.5 * np.sum(np.square(table, dtype=np.float64), axis=1)
        rows_of = g.param(f"codebook.{k}", table)
        score = op.gemm(x, rows_of, g.param(f"codebook.{k}.half", half.astype(np.float32)), transB=1)
        index = op.arg_max(score, axis=1, keepdims=0)
        rows.append(op.unsqueeze(index, ints(0)))
        x = op.sub(x, op.gather(rows_of, index))
    return op.concat(rows, axis=0)


def _check_hop(weights: Weights, part: str, strides: list[int]) -> None:
    if math.prod(strides) != CODEC_HOP:
        raise weights.damaged(f"the {part} has {math.prod(strides)} samples a frame, expected {CODEC_HOP}")
