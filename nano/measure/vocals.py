"""Measures of a vocal stem: loudness, syllables, register. Waves are mono [S] at `rate` Hz."""

from __future__ import annotations

import numpy as np

from nano.measure.features import HOP_SECONDS, Doubles, Wave, band_envelope_db, level_db

VOICED_BAND = (150.0, 1600.0)
"""Hz: vowels are loud here, hisses are not."""
RISE_DB, FALL_DB = 9.0, 17.0
"""A syllable begins this near to the band's loud moments, after being this far below."""
QUIETEST_DB = -55.0
"""A section whose loud moments are below it holds no singing."""
LOWEST_HZ, HIGHEST_HZ = 80.0, 500.0
CLEAR = 0.6
"""Autocorrelation that makes a frame voiced."""
BORDER_HZ = 202.0
"""Between the highest male note of the corpus (185 Hz) and its lowest female one (220 Hz)."""


def section_levels(vocal: Wave, rate: int, spans: list[tuple[float, float]]) -> list[float]:
    """Level of each span (start, end in seconds) in dB of full scale, -120 for silence."""
    return [level_db(vocal[round(a * rate) : round(b * rate)]) for a, b in spans]


def syllable_spans(vocal: Wave, rate: int) -> list[tuple[float, float]]:
    """Start and end of each syllable's voiced part in seconds: two thresholds on the vowels' band."""
    envelope = band_envelope_db(vocal, rate, *VOICED_BAND)
    loud = float(np.percentile(envelope, 95))
    if loud < QUIETEST_DB:
        return []
    spans: list[tuple[float, float]] = []
    begun: int | None = None
    for i, value in enumerate(envelope):
        if begun is None and value > loud - RISE_DB:
            begun = i
        elif begun is not None and value < loud - FALL_DB:
            spans.append((begun * HOP_SECONDS, i * HOP_SECONDS))
            begun = None
    if begun is not None:
        spans.append((begun * HOP_SECONDS, len(envelope) * HOP_SECONDS))
    return spans


def syllable_count(vocal: Wave, rate: int) -> int:
    """Syllables sung in a section."""
    return len(syllable_spans(vocal, rate))


def pitch_track(vocal: Wave, rate: int) -> Doubles:
    """Fundamental in Hz [T] every 20 ms, 0 where nothing is voiced: normalised autocorrelation of 50 ms."""
    length, hop = round(0.05 * rate), round(0.02 * rate)
    count = max(0, (len(vocal) - length) // hop + 1)
    if not count:
        return np.zeros(0)
    rows = vocal[np.arange(count)[:, None] * hop + np.arange(length)].astype(np.float64)
    low, high = int(rate / HIGHEST_HZ), int(rate / LOWEST_HZ)
    similar = _normalised_autocorrelation(rows)[:, : high + 2]
    energy = np.mean(rows**2, axis=1)
    # the first peak nearly as high as the highest: the highest itself may be a multiple of the period
    inside = similar[:, low : high + 1]
    peak = (inside >= similar[:, low - 1 : high]) & (inside > similar[:, low + 1 : high + 2])
    best = np.where(peak, inside, -1.0).max(axis=1)
    place = np.argmax(peak & (inside >= 0.9 * best[:, None]), axis=1) + low
    index = np.arange(count)
    left, centre, right = similar[index, place - 1], similar[index, place], similar[index, place + 1]
    bend = left - 2 * centre + right
    shift = np.where(bend < -1e-12, 0.5 * (left - right) / np.minimum(bend, -1e-12), 0.0)
    voiced = (best > CLEAR) & (energy > 1e-3 * max(float(energy.max()), 1e-12)) & (energy > 1e-7)
    return np.where(voiced, rate / (place + shift), 0.0)


def register(vocal: Wave, rate: int) -> str:
    """ "male" or "female" by the median fundamental; "" where nobody sings."""
    track = pitch_track(vocal, rate)
    voiced = track[track > 0]
    if not len(voiced):
        return ""
    return "male" if float(np.median(voiced)) < BORDER_HZ else "female"


def _normalised_autocorrelation(rows: Doubles) -> Doubles:
    """Rows [T, L] → [T, L]: likeness of a row's start and its end at each distance, 1 at most."""
    length = rows.shape[1]
    size = 1 << (2 * length - 1).bit_length()
    product = np.fft.irfft(np.abs(np.fft.rfft(rows, size)) ** 2, size)[:, :length]
    squares = np.cumsum(rows**2, axis=1)
    total = squares[:, -1:]
    head = squares[:, ::-1]  # energy of the first L - lag samples
    tail = np.concatenate([total, total - squares[:, :-1]], axis=1)  # of the last L - lag
    return product / np.maximum(np.sqrt(np.maximum(head * tail, 0)), 1e-9)
