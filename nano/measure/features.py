"""Spectra and envelopes that the measures share. Waves are mono float32 [S] at `rate` Hz."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.floating]
Doubles = NDArray[np.float64]

HOP_SECONDS = 0.01
"""Step of all envelopes."""


def power(wave: Wave, rate: int, window_s: float, hop_s: float = HOP_SECONDS, size: int = 0) -> Doubles:
    """Hann power spectra [T, size // 2 + 1], T = floor(seconds / hop_s) + 1, centred on multiples of `hop_s`.

    A full-scale sine has the power 0.25 in its bin. `size`: length of the transform, at least the window's.
    """
    length = round(window_s * rate)
    size = size or 1 << (length - 1).bit_length()
    window = np.hanning(length + 2)[1:-1]
    window /= window.sum()
    count = int(len(wave) / (hop_s * rate)) + 1
    padded = np.pad(wave, (length // 2, length))
    starts = np.round(np.arange(count) * hop_s * rate).astype(int)
    out = np.empty((count, size // 2 + 1))
    for first in range(0, count, 256):  # blocks bound the memory of a long song
        rows = starts[first : first + 256, None] + np.arange(length)
        out[first : first + 256] = np.abs(np.fft.rfft(padded[rows] * window, size)) ** 2
    return out


@lru_cache(maxsize=16)
def mel_filters(bands: int, rate: int, size: int, low_hz: float, high_hz: float) -> Doubles:
    """Triangles [bands, size // 2 + 1] of unit peak, evenly spaced in mel (2595·log10(1 + f/700))."""
    mel = np.linspace(_mel(low_hz), _mel(high_hz), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    rise = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall))


def log_mel(
    wave: Wave,
    rate: int,
    bands: int = 80,
    high_hz: float | None = None,
    window_s: float = 0.064,
    hop_s: float = HOP_SECONDS,
) -> Doubles:
    """Mel power in dB [T, bands] from 40 Hz to `high_hz` (default: half the rate), not below -100 dB."""
    spectra = power(wave, rate, window_s, hop_s)
    size = 2 * (spectra.shape[1] - 1)
    filters = mel_filters(bands, rate, size, 40.0, high_hz or rate / 2)
    return 10 * np.log10(np.maximum(spectra @ filters.T, 1e-10))


def level_db(wave: Wave, floor_db: float = -120.0) -> float:
    """Root mean square in dB of full scale; `floor_db` for silence and for no samples."""
    mean = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
    return max(10 * np.log10(max(mean, 1e-30)), floor_db)


def band_envelope_db(wave: Wave, rate: int, low_hz: float, high_hz: float, window_s: float = 0.03) -> Doubles:
    """Power of a band in dB [T] every 10 ms, not below -100 dB."""
    spectra = power(wave, rate, window_s)
    frequency = np.linspace(0, rate / 2, spectra.shape[1])
    inside = (frequency >= low_hz) & (frequency <= high_hz)
    return 10 * np.log10(np.maximum(spectra[:, inside].sum(axis=1), 1e-10))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
