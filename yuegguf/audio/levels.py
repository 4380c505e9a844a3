"""Faults of a recording's level: silence, clipping, a constant offset, an unusual loudness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.floating]

SILENT_DB = -60.0
"""RMS level below which a recording is silent, dB of full scale."""
QUIET_DB, LOUD_DB = -40.0, -6.0
"""RMS levels beyond which a recording is unlike finished music, which lies between -25 and -9 dB."""
CLIPPED_SHARE = 0.001
"""Share of samples at the peak, in runs of CLIPPED_RUN, from which on a recording is clipped."""
CLIPPED_RUN = 3
OFFSET_SHARE = 0.25
"""Mean of the samples, as a share of their RMS, from which on there is a constant offset."""


def level_faults(wave: Samples) -> list[str]:
    """Sentences about what is unusual in the level of a mono wave [S] in -1 … 1; empty for finished music."""
    if not len(wave):
        return ["it holds no samples"]
    samples = wave.astype(np.float64)
    mean = float(samples.mean())
    level = decibels(float(np.sqrt(np.mean((samples - mean) ** 2))))
    faults = []
    if abs(mean) > OFFSET_SHARE * float(np.sqrt(np.mean(samples**2))) and abs(mean) > 1e-3:
        faults.append(f"its samples lie around {mean:.2f} instead of 0; remove the DC offset")
    if level < SILENT_DB:
        return [*faults, "it is silent"]
    if level < QUIET_DB:
        faults.append(f"it is very quiet, {level:.0f} dB; raise it to about -20 dB")
    if level > LOUD_DB:
        faults.append(f"it is very loud, {level:.0f} dB; lower it to about -20 dB")
    if clipped_share(samples) > CLIPPED_SHARE:
        faults.append("it is clipped; use a recording that was not overdriven")
    return faults


def clipped_share(samples: Samples) -> float:
    """Share of samples that lie in runs of at least CLIPPED_RUN equal ones at the peak."""
    peak = float(np.abs(samples).max())
    at_peak = np.abs(samples) >= peak * (1 - 1e-4)
    same = np.sign(samples) * at_peak
    edges = np.flatnonzero(np.diff(same, prepend=np.nan, append=np.nan) != 0)
    runs = np.diff(edges)
    return float(runs[(same[edges[:-1]] != 0) & (runs >= CLIPPED_RUN)].sum() / len(samples))


def decibels(value: float) -> float:
    """An amplitude as dB of full scale; -200 for none."""
    return 20 * float(np.log10(max(value, 1e-10)))
