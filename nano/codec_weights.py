"""Draw the miniature codec: an X-Codec checkpoint and two Vocos checkpoints in the published file layout.

Same classes and key names as the published files, narrow widths, seeded numbers. Scales follow one rule, that
a layer fed with unit variance gives unit variance, so codes differ from frame to frame and audio comes out
neither silent nor clipped. `python nano/codec_weights.py FOLDER` writes the three files for `export-codec`.
"""

from __future__ import annotations

import math
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]

N_FFT = 3528
STRIDES = (8, 5, 4, 2)
UPSAMPLERS = {"vocal": "decoder_131000.pth", "instrumental": "decoder_151000.pth"}
HUBERT_KERNELS = (10, 3, 3, 3, 3, 2, 2)


@dataclass(frozen=True)
class CodecSpec:
    """Widths of a miniature codec. The quantiser is as wide as `acoustic` and `hubert` together."""

    seed: int = 20250129
    acoustic: int = 8
    """Channels between acoustic encoder and quantiser, and between quantiser and decoder."""
    encoder_base: int = 4
    """Channels of the acoustic encoder's first convolution; doubles at each stride."""
    decoder_base: int = 48
    """Channels of the decoder's first convolution; halves at each stride."""
    hubert: int = 24
    hubert_conv: int = 16
    hubert_ffn: int = 48
    hubert_layers: int = 2
    hubert_groups: int = 8
    codebooks: int = 12
    bins: int = 1024
    vocos: int = 24
    vocos_blocks: int = 2

    @property
    def width(self) -> int:
        """Numbers of one codebook entry."""
        return self.acoustic + self.hubert


NANO = CodecSpec()


class _Draw:
    """Collects tensors; each has its own stream, so adding one changes no other."""

    def __init__(self, seed: int, name: str) -> None:
        self._key = [seed, zlib.crc32(name.encode())]
        self.tensors: Tensors = {}

    def normal(self, name: str, shape: tuple[int, ...], scale: float, mean: float = 0.0) -> None:
        rng = np.random.default_rng([*self._key, zlib.crc32(name.encode())])
        self.tensors[name] = (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    def matrix(
        self, module: str, shape: tuple[int, ...], gain: float = 1.0, bias: float | None = 0.05
    ) -> None:
        """A plain linear layer or convolution: unit variance in, gain² out."""
        self.normal(f"{module}.weight", shape, gain / math.sqrt(math.prod(shape[1:])))
        if bias is not None:
            self.normal(f"{module}.bias", shape[:1], bias)

    def normed(self, module: str, shape: tuple[int, ...], gain: float = 1.0, out: int | None = None) -> None:
        """A weight-normalised convolution; every row (axis 0) has the norm `gain`."""
        self.normal(f"{module}.weight_v", shape, 1.0)
        self.normal(f"{module}.weight_g", (shape[0], 1, 1), 0.05 * gain, gain)
        self.normal(f"{module}.bias", (shape[0] if out is None else out,), 0.02)

    def norm(self, module: str, width: int) -> None:
        self.normal(f"{module}.weight", (width,), 0.1, 1.0)
        self.normal(f"{module}.bias", (width,), 0.05)

    def snake(self, module: str, width: int) -> None:
        self.normal(f"{module}.alpha", (1, width, 1), 0.2, 1.0)

    def residual(self, module: str, width: int) -> None:
        """A residual unit whose branch is quiet enough for twelve of them in a row."""
        self.snake(f"{module}.block.0", width)
        self.normed(f"{module}.block.1", (width, width, 7), 0.8)
        self.snake(f"{module}.block.2", width)
        self.normed(f"{module}.block.3", (width, width, 1), 0.3)


def xcodec(spec: CodecSpec = NANO) -> Tensors:
    """The state dict under `codec_model` of the published checkpoint, less what only training needs."""
    draw = _Draw(spec.seed, "xcodec")
    _encoder(draw, spec)
    _decoder(draw, spec)
    _hubert(draw, spec)
    _semantic_encoder(draw, spec.hubert)
    draw.matrix("fc_prior", (spec.width, spec.width))
    draw.matrix("fc_post2", (spec.acoustic, spec.width), 0.6)
    for k in range(spec.codebooks):
        book = f"quantizer.vq.layers.{k}._codebook"
        draw.normal(f"{book}.embed", (spec.bins, spec.width), 0.8**k)
        draw.tensors[f"{book}.embed_avg"] = draw.tensors[f"{book}.embed"]
        draw.tensors[f"{book}.cluster_size"] = np.ones(spec.bins, np.float32)
        draw.tensors[f"{book}.inited"] = np.ones(1, np.float32)
    return draw.tensors


def vocos(spec: CodecSpec, name: str) -> Tensors:
    """One upsampler; `name` ("vocal", "instrumental") picks its stream of numbers."""
    draw = _Draw(spec.seed, name)
    dim, bins = spec.vocos, N_FFT // 2 + 1
    draw.matrix("backbone.embed", (dim, spec.width, 7), 0.6)
    draw.norm("backbone.norm", dim)
    for i in range(spec.vocos_blocks):
        block = f"backbone.convnext.{i}"
        draw.matrix(f"{block}.dwconv", (dim, 1, 7))
        draw.norm(f"{block}.norm", dim)
        draw.matrix(f"{block}.pwconv1", (3 * dim, dim))
        draw.matrix(f"{block}.pwconv2", (dim, 3 * dim))
        draw.normal(f"{block}.gamma", (dim,), 0.03, 0.3)
    draw.norm("backbone.final_layer_norm", dim)
    draw.matrix("head.out", (2 * bins, dim))
    weight, bias = draw.tensors["head.out.weight"], draw.tensors["head.out.bias"]
    weight[:bins] *= 0.4  # log-magnitudes move a little, phases a lot
    weight[bins:] *= 2.0
    bias[:bins] += np.linspace(3.0, -3.0, bins, dtype=np.float32)  # falling spectrum, rms near 0.1
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    draw.tensors["head.istft.window"] = window.astype(np.float32)
    return draw.tensors


def write(folder: Path, spec: CodecSpec = NANO) -> None:
    """Write final_ckpt/ckpt_00360000.pth and decoders/decoder_{131000,151000}.pth."""
    save_codec(folder, xcodec(spec))
    for track in UPSAMPLERS:
        save_upsampler(folder, track, vocos(spec, track))


def save_codec(folder: Path, tensors: Tensors) -> None:
    """Write X-Codec's tensors where the published repository has them."""
    _save(folder / "final_ckpt" / "ckpt_00360000.pth", tensors, "codec_model")


def save_upsampler(folder: Path, track: str, tensors: Tensors) -> None:
    """Write one track's Vocos where the published repository has it."""
    _save(folder / "decoders" / UPSAMPLERS[track], tensors)


def _encoder(draw: _Draw, spec: CodecSpec) -> None:
    width = spec.encoder_base
    draw.normed("encoder.block.0", (width, 1, 7), 4.0)  # audio has an rms of 0.1 to 0.3
    for i, stride in enumerate(STRIDES, 1):
        block = f"encoder.block.{i}.block"
        for j in range(3):
            draw.residual(f"{block}.{j}", width)
        draw.snake(f"{block}.3", width)
        draw.normed(f"{block}.4", (2 * width, width, 2 * stride), 0.8)
        width *= 2
    draw.snake(f"encoder.block.{len(STRIDES) + 1}", width)
    draw.normed(f"encoder.block.{len(STRIDES) + 2}", (spec.acoustic, width, 3), 1.5)


def _decoder(draw: _Draw, spec: CodecSpec) -> None:
    width = spec.decoder_base
    draw.normed("decoder_2.model.0", (width, spec.acoustic, 7))
    for i, stride in enumerate(STRIDES, 1):
        block = f"decoder_2.model.{i}.block"
        draw.snake(f"{block}.0", width)
        # rows are input channels here, and two taps of `width` inputs meet in every sample
        draw.normed(f"{block}.1", (width, width // 2, 2 * stride), 0.75 * math.sqrt(stride / 2), width // 2)
        width //= 2
        for j in range(3):
            draw.residual(f"{block}.{j + 2}", width)
    draw.snake(f"decoder_2.model.{len(STRIDES) + 1}", width)
    draw.normed(f"decoder_2.model.{len(STRIDES) + 2}", (1, width, 7), 0.12)
    # taps that sum to zero: no constant offset in the audio
    last = f"decoder_2.model.{len(STRIDES) + 2}"
    draw.tensors[f"{last}.weight_v"] -= draw.tensors[f"{last}.weight_v"].mean(axis=2, keepdims=True)
    draw.tensors[f"{last}.bias"] *= 0


def _hubert(draw: _Draw, spec: CodecSpec) -> None:
    base, hidden, conv = "semantic_model", spec.hubert, spec.hubert_conv
    for i, kernel in enumerate(HUBERT_KERNELS):
        inputs = 1 if i == 0 else conv
        module = f"{base}.feature_extractor.conv_layers.{i}"
        draw.matrix(f"{module}.conv", (conv, inputs, kernel), 1.6, bias=None)
    draw.norm(f"{base}.feature_extractor.conv_layers.0.layer_norm", conv)
    draw.norm(f"{base}.feature_projection.layer_norm", conv)
    draw.matrix(f"{base}.feature_projection.projection", (hidden, conv))
    position = f"{base}.encoder.pos_conv_embed.conv"
    kernel_size = 128
    draw.normal(f"{position}.weight_v", (hidden, hidden // spec.hubert_groups, kernel_size), 1.0)
    draw.normal(f"{position}.weight_g", (1, 1, kernel_size), 0.02, 0.4)
    draw.normal(f"{position}.bias", (hidden,), 0.05)
    draw.norm(f"{base}.encoder.layer_norm", hidden)
    for i in range(spec.hubert_layers):
        layer = f"{base}.encoder.layers.{i}"
        for part, gain in (("q", 1.5), ("k", 1.5), ("v", 1.0), ("out", 0.5)):
            draw.matrix(f"{layer}.attention.{part}_proj", (hidden, hidden), gain)
        draw.norm(f"{layer}.layer_norm", hidden)
        draw.matrix(f"{layer}.feed_forward.intermediate_dense", (spec.hubert_ffn, hidden))
        draw.matrix(f"{layer}.feed_forward.output_dense", (hidden, spec.hubert_ffn), 0.7)
        draw.norm(f"{layer}.final_layer_norm", hidden)


def _semantic_encoder(draw: _Draw, width: int) -> None:
    base = "encoder_semantic"
    draw.matrix(f"{base}.conv.conv", (width, width, 3), bias=None)
    for i in range(2):
        for j in range(2):
            unit = f"{base}.conv_blocks.{i}.res_units.{j}"
            draw.matrix(f"{unit}.conv1.conv", (width, width, 3), 1.2, bias=None)
            draw.matrix(f"{unit}.conv2", (width, width, 1), 0.6, bias=None)
        draw.matrix(f"{base}.conv_blocks.{i}.conv.conv", (width, width, 3))


def _save(path: Path, tensors: Tensors, key: str | None = None) -> None:
    import torch  # only to write the file format

    content = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content if key is None else {key: content}, path)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
