"""A Vocos upsampler as torch modules with the published key names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from nano.codec_weights import N_FFT, CodecSpec
from yuegguf.codec.protocol import SONG_HOP

MAX_MAGNITUDE = 100.0
EPSILON = 1e-6


class Block(nn.Module):
    """ConvNeXt: depthwise convolution, norm, two pointwise layers, added with a learned weight."""

    def __init__(self, dim: int, blocks: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1 / blocks))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, T] → the same shape."""
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(y)))
        return x + y.transpose(1, 2)


class Backbone(nn.Module):
    """Features [B, W, T] → [B, T, dim]."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.embed = nn.Conv1d(spec.width, spec.vocos, 7, padding=3)
        self.norm = nn.LayerNorm(spec.vocos, eps=EPSILON)
        self.convnext = nn.ModuleList(Block(spec.vocos, spec.vocos_blocks) for _ in range(spec.vocos_blocks))
        self.final_layer_norm = nn.LayerNorm(spec.vocos, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Sum of codebook rows [B, W, T] → [B, T, dim]."""
        x = self.norm(self.embed(x).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        return self.final_layer_norm(x.transpose(1, 2))


class Window(nn.Module):
    """Carries the published window."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT))


class Head(nn.Module):
    """Magnitudes and phases, and the overlapped frames."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.out = nn.Linear(spec.vocos, N_FFT + 2)
        self.istft = Window()

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, dim] → waves [B, 882·T] at 44.1 kHz."""
        log_magnitude, phase = self.out(x).chunk(2, -1)
        magnitude = log_magnitude.exp().clamp_max(MAX_MAGNITUDE)
        window = self.istft.window
        frames = torch.fft.irfft(torch.polar(magnitude, phase), N_FFT) * window
        weight = (window**2)[None].expand(x.shape[1], -1)[None]
        wave, total = _overlap(frames), _overlap(weight)
        cut = (N_FFT - SONG_HOP) // 2
        return wave[:, cut:-cut] / total[:, cut:-cut]


def _overlap(frames: Tensor) -> Tensor:
    """Frames [B, T, N_FFT] added a hop apart → [B, N_FFT + 882·(T - 1)]."""
    length = N_FFT + SONG_HOP * (frames.shape[1] - 1)
    return functional.fold(frames.transpose(1, 2), (1, length), (1, N_FFT), stride=(1, SONG_HOP))[:, 0, 0]


class Vocos(nn.Module):
    """Sum of codebook rows → 44.1 kHz."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(spec), Head(spec)
        with torch.no_grad():
            self.head.out.bias[: N_FFT // 2 + 1] = -1.0

    def forward(self, features: Tensor) -> Tensor:
        """[B, W, T] → [B, 882·T]."""
        return self.head(self.backbone(features))
