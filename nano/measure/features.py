"""Spectra and envelopes that the measures share. Waves are mono float32 [S] at `rate` Hz."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.spectra import HOP_SECONDS as HOP_SECONDS
from yuegguf.audio.spectra import log_mel as log_mel
from yuegguf.audio.spectra import mel_filters as mel_filters
from yuegguf.audio.spectra import power as power

Wave = NDArray[np.floating]
Doubles = NDArray[np.float64]


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
