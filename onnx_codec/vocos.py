"""The Vocos upsampler as a graph: codes → complex spectrum (`vocos/models.py`, `vocos/heads.py`).

ONNX has no inverse short-time Fourier transform, and as a matrix product it would add 50 MB of cosines, so
the graph ends at the spectrum and the caller does the inverse FFT and the overlap-add with numpy.
"""

from __future__ import annotations

import numpy as np
import onnx
import spox.opset.ai.onnx.v17 as op
from spox import Tensor, Var, argument

from yuegguf.codec.protocol import SONG_HOP

from .layers import Layers, gelu, ints, scalar, to_channels, to_time, width
from .weights import Floats, Weights
from .xcodec import embedding

MAX_MAGNITUDE = 100.0
"""Vocos clips its magnitudes here (`ISTFTHead`)."""
_EPSILON = 1e-6


def fft_size(weights: Weights) -> int:
    """Samples of one Fourier frame. Raises DamagedFile where window, head and hop do not fit together."""
    window = weights.array("head.istft.window", None)
    size: int = window.shape[0]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    if size % SONG_HOP or (size // SONG_HOP) % 2 or np.abs(window - hann).max() > 1e-5:
        raise weights.damaged(
            f"head.istft.window is not a periodic Hann window of an even number of {SONG_HOP}s"
        )
    return size


def upsampler(weights: Weights, tables: Floats) -> onnx.ModelProto:
    """Graph `codes` int64 [K, T] → `real`, `imag` float32 [T, n_fft/2 + 1] of 44.1 kHz frames.

    `tables` are the codebooks of the codec whose codes come in, [K, bins, D].
    """
    g = Layers(weights)
    bins = fft_size(weights) // 2 + 1
    codes = argument(Tensor(np.int64, ("codebooks", "frames")))
    x = _backbone(g, to_time(embedding(g, codes, tables)))
    log_magnitude, phase = op.split(
        g.linear(x, "head.out", 2 * bins), ints(bins, bins), outputs_count=2, axis=1
    )
    magnitude = op.min([op.exp(log_magnitude), scalar(MAX_MAGNITUDE)])
    real, imag = op.mul(magnitude, op.cos(phase)), op.mul(magnitude, op.sin(phase))
    return g.model({"codes": codes}, {"real": real, "imag": imag})


def _backbone(g: Layers, x: Var) -> Var:
    """[1, D, T] → [T, dim]: convolution, ConvNeXt blocks, LayerNorm."""
    x = g.layer_norm(to_channels(g.conv(x, "backbone.embed")), "backbone.norm", _EPSILON)
    for i in range(g.weights.count("backbone.convnext")):
        block = f"backbone.convnext.{i}"
        dim = width(x, 1)
        y = to_channels(g.conv(to_time(x), f"{block}.dwconv", out=dim, groups=dim))
        y = g.layer_norm(y, f"{block}.norm", _EPSILON)
        y = g.linear(gelu(g.linear(y, f"{block}.pwconv1")), f"{block}.pwconv2", dim)
        x = op.add(x, op.mul(y, g.vector(f"{block}.gamma", dim)))
    return g.layer_norm(x, "backbone.final_layer_norm", _EPSILON)
