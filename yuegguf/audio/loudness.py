"""Loudness and true peaks of waves by ITU-R BS.1770-5.

Checked in the tests against pyloudnorm and ffmpeg's ebur128; pyloudnorm itself needs scipy, which is larger
than the rest of this program.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import log10, pi, tan

import numpy as np

from yuegguf.audio.dsp import BLOCK_SAMPLES, Doubles, Wave, kernel_reach, lfilter, resample_kernel

SHELF_HZ, SHELF_DB, SHELF_Q = 1681.974450955533, 3.999843853973347, 0.7071752369554196
"""High shelf of the K-weighting: the analogue filter behind the standard's coefficients at 48 kHz."""
HIGH_PASS_HZ, HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773
"""High pass of the K-weighting, likewise."""
OFFSET_DB = -0.691
"""The standard's constant: a sine of 997 Hz and full scale in one channel then has -3.01 LUFS."""
STEP_SECONDS, STEPS_OF_BLOCK = 0.1, 4
"""Loudness is measured in blocks of 0.4 s that begin every 0.1 s."""
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0
"""Quietest block that counts, LUFS; level of the second gate relative to the mean, LU."""
OVERSAMPLING = 4
"""Points of the reconstructed wave at each sample of a true-peak measurement."""


def integrated_loudness(waves: Sequence[Wave], rate: int) -> float | None:
    """Integrated loudness in LUFS of channels [S] at `rate` Hz; None for silence or less than 0.4 s."""
    step = round(STEP_SECONDS * rate)
    energy = np.sum([_step_energies(k_weighted(wave, rate), step) for wave in waves], axis=0)
    blocks = (
        np.convolve(energy, np.ones(STEPS_OF_BLOCK), "valid") if len(energy) >= STEPS_OF_BLOCK else energy[:0]
    )
    power = blocks / (STEPS_OF_BLOCK * step)
    power = power[power > _power(ABSOLUTE_GATE)]
    if not len(power):
        return None
    power = power[power > _power(_lufs(float(power.mean())) + RELATIVE_GATE)]
    return _lufs(float(power.mean()))


def k_weighted(wave: Wave, rate: int) -> Wave:
    """Wave [S] through the standard's two filters."""
    shelf, high_pass = k_weighting(rate)
    return lfilter(lfilter(wave, *shelf, clamp=False), *high_pass, clamp=False)


@cache
def k_weighting(rate: int) -> tuple[tuple[Doubles, Doubles], tuple[Doubles, Doubles]]:
    """Numerator and denominator [3] of the high shelf and of the high pass at `rate` Hz (bilinear)."""
    k, gain = tan(pi * SHELF_HZ / rate), 10 ** (SHELF_DB / 20)
    middle = gain**0.4996667741545416  # gain of the shelf at its frequency
    scale = 1 + k / SHELF_Q + k * k
    shelf = (
        np.array(
            [gain + middle * k / SHELF_Q + k * k, 2 * (k * k - gain), gain - middle * k / SHELF_Q + k * k]
        ),
        np.array([scale, 2 * (k * k - 1), 1 - k / SHELF_Q + k * k]),
    )
    k = tan(pi * HIGH_PASS_HZ / rate)
    low = np.array([1 + k / HIGH_PASS_Q + k * k, 2 * (k * k - 1), 1 - k / HIGH_PASS_Q + k * k])
    return (shelf[0] / scale, shelf[1] / scale), (np.array([1.0, -2.0, 1.0]), low / low[0])


def true_peak_level(wave: Wave) -> Wave:
    """Largest absolute value of the reconstructed wave between each sample and the next: [S] → [S].

    The wave is interpolated at OVERSAMPLING points a sample, as the standard's annex 2 does at 44.1 kHz.
    """
    _, kernel = resample_kernel(1, OVERSAMPLING)
    reach = kernel_reach(1, OVERSAMPLING)
    padded = np.pad(wave, (reach, kernel.shape[1] - 1 - reach))
    level = np.abs(wave)
    for start in range(0, len(wave), BLOCK_SAMPLES):
        piece = padded[start : start + BLOCK_SAMPLES + kernel.shape[1] - 1]
        target = level[start : start + BLOCK_SAMPLES]
        for taps in kernel[1:]:
            np.maximum(target, np.abs(np.correlate(piece, taps, "valid")), out=target)
    return level


def _step_energies(weighted: Wave, step: int) -> Doubles:
    """Sum of squares of each whole step."""
    whole = weighted[: len(weighted) // step * step].reshape(-1, step)
    energies = [np.einsum("ns,ns->n", rows, rows, dtype=np.float64) for rows in _row_blocks(whole)]
    return np.concatenate(energies) if energies else np.empty(0)


def _row_blocks(rows: Wave) -> list[Wave]:
    size = max(1, BLOCK_SAMPLES // rows.shape[1])
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _lufs(power: float) -> float:
    return OFFSET_DB + 10 * log10(power)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET_DB) / 10))
