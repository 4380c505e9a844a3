"""A reconstruction against its reference. Two mono waves [S] of one rate; the shorter length counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from nano.measure.features import Doubles, Wave, log_mel, power

SILENT_DB = -80.0
"""Level in dB below which mel bands count as silent."""
HIGH_BANDS = 16
"""Bands above 8 kHz that the correlation looks at."""


def log_mel_distance(wave: Wave, reference: Wave, rate: int, bands: int = 80) -> float:
    """Mean absolute difference in dB over mel bands and time; 0 for equal waves."""
    wave, reference = _same_length(wave, reference)
    pair = [np.maximum(log_mel(w, rate, bands), SILENT_DB) for w in (wave, reference)]
    return float(np.mean(np.abs(pair[0] - pair[1])))


def si_sdr(wave: Wave, reference: Wave) -> float:
    """Scale-invariant signal-to-distortion ratio in dB; 100 at most, -100 for a silent wave or reference."""
    wave, reference = (w.astype(np.float64) for w in _same_length(wave, reference))
    energy = float(reference @ reference)
    if energy == 0.0 or not wave.any():
        return -100.0
    target = (wave @ reference / energy) * reference
    distortion = wave - target
    ratio = float(target @ target) / max(float(distortion @ distortion), 1e-30)
    return float(np.clip(10 * np.log10(max(ratio, 1e-10)), -100, 100))


def high_band_correlation(wave: Wave, reference: Wave, rate: int = 44_100, above_hz: float = 8000.0) -> float:
    """Pearson correlation, -1 … 1, of the spectrograms in dB above 8 kHz (16 bands, every 10 ms).

    0 where one of them does not change at all, a silent one for example.
    """
    wave, reference = _same_length(wave, reference)
    a, b = (_high_bands(w, rate, above_hz).ravel() for w in (wave, reference))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 1e-9 else 0.0


def _high_bands(wave: Wave, rate: int, above_hz: float) -> Doubles:
    spectra = power(wave, rate, 0.02)
    edges = np.linspace(above_hz, min(18_000, rate / 2), HIGH_BANDS + 1) / (rate / 2) * (spectra.shape[1] - 1)
    starts = np.round(edges).astype(int)
    bands = np.stack([spectra[:, a:b].sum(axis=1) for a, b in pairwise(starts)], axis=1)
    return np.maximum(10 * np.log10(np.maximum(bands, 1e-10)), SILENT_DB)


def _same_length(wave: Wave, reference: Wave) -> tuple[Wave, Wave]:
    length = min(len(wave), len(reference))
    return wave[:length], reference[:length]
