"""Spectral losses that the codec and the upsamplers share. Waves are [B, N]."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from nano.measure.features import mel_filters

FLOOR = 1e-4
"""Amplitude below which nobody hears how silent a band is: -80 dB."""


def magnitudes(wave: Tensor, size: int) -> Tensor:
    """[B, N] → [B, size // 2 + 1, T] in amplitude: a sine of amplitude a has a in its bin."""
    window = torch.hann_window(size, device=wave.device)
    spectrum = torch.stft(wave, size, size // 4, window=window, return_complex=True)
    return spectrum.abs() * (2 / window.sum())


@lru_cache(maxsize=16)
def _filters(bands: int, rate: int, size: int) -> Tensor:
    return torch.from_numpy(mel_filters(bands, rate, size, 40.0, rate / 2)).float()


def spectral_loss(made: Tensor, real: Tensor, rate: int, scales: dict[int, int]) -> Tensor:
    """Mean over the scales {window: mel bands} of the log-mel distance, and of the linear one."""
    total = made.new_zeros(())
    for size, bands in scales.items():
        filters = _filters(bands, rate, size).to(made.device)
        a, b = (filters @ magnitudes(wave, size) for wave in (made, real))
        logs = (torch.log10(a + FLOOR) - torch.log10(b + FLOOR)).abs().mean()
        total = total + logs + 10 * (a - b).abs().mean()
    return total / len(scales)
