"""Power spectra of waves, a block of times at a time. Waves are mono [S] at `rate` Hz."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.floating]
Doubles = NDArray[np.float64]

HOP_SECONDS = 0.01
"""Step of all envelopes."""
BLOCK_VALUES = 1 << 20
"""Values of the spectra of a block, which bound the memory of a long song."""


def power_blocks(
    wave: Samples, rate: int, window_s: float, hop_s: float = HOP_SECONDS, size: int = 0
) -> Iterator[Doubles]:
    """Hann power spectra [n, size // 2 + 1] of T = floor(seconds / hop_s) + 1 times, at multiples of `hop_s`.

    A full-scale sine has the power 0.25 in its bin. `size`: length of the transform, at least the window's.
    """
    length = round(window_s * rate)
    size = size or 1 << (length - 1).bit_length()
    window = np.hanning(length + 2)[1:-1]
    window /= window.sum()
    count = int(len(wave) / (hop_s * rate)) + 1
    padded = np.pad(wave, (length // 2, length))
    starts = np.round(np.arange(count) * hop_s * rate).astype(int)
    step = max(1, BLOCK_VALUES // size)
    for first in range(0, count, step):
        rows = starts[first : first + step, None] + np.arange(length)
        yield np.asarray(np.abs(np.fft.rfft(padded[rows] * window, size)) ** 2, np.float64)


def power(wave: Samples, rate: int, window_s: float, hop_s: float = HOP_SECONDS, size: int = 0) -> Doubles:
    """All spectra of `power_blocks` [T, size // 2 + 1]."""
    return np.concatenate(list(power_blocks(wave, rate, window_s, hop_s, size)))


@lru_cache(maxsize=16)
def mel_filters(bands: int, rate: int, size: int, low_hz: float, high_hz: float) -> Doubles:
    """Triangles [bands, size // 2 + 1] of unit peak, evenly spaced in mel (2595·log10(1 + f/700))."""
    mel = np.linspace(hertz_to_mel(low_hz), hertz_to_mel(high_hz), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    rise = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(0, np.minimum(rise, fall)), np.float64)


def log_mel(
    wave: Samples,
    rate: int,
    bands: int = 80,
    high_hz: float | None = None,
    *,
    window_s: float = 0.064,
    hop_s: float = HOP_SECONDS,
) -> Doubles:
    """Mel power in dB [T, bands] from 40 Hz to `high_hz` (default: half the rate), not below -100 dB."""
    bands_of = [
        spectra @ mel_filters(bands, rate, 2 * (spectra.shape[1] - 1), 40.0, high_hz or rate / 2).T
        for spectra in power_blocks(wave, rate, window_s, hop_s)
    ]
    return np.asarray(10 * np.log10(np.maximum(np.concatenate(bands_of), 1e-10)), np.float64)


def hertz_to_mel(hertz: float) -> float:
    """O'Shaughnessy's scale, as in HTK."""
    return float(2595 * np.log10(1 + hertz / 700))
