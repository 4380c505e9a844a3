"""Widening of a mono wave into two channels whose sum is the mono wave."""

from __future__ import annotations

from functools import cache

import numpy as np

from yuegguf.audio.dsp import Doubles, Wave, fir

TAPS = 4095
"""Length of the side's filter: 93 ms at 44.1 kHz, of which DECAY_SECONDS hold the most."""
DECAY_SECONDS = 0.008
LOWEST_HZ, FULL_HZ = 250.0, 500.0
"""Frequencies below which there is no side, and from which on it is whole."""
SIDE_GAIN = 0.5
"""Level of the side relative to the wave: -6 dB."""


def side_of(wave: Wave, rate: int) -> Wave:
    """The side signal of a mono wave [S]: left = wave + side, right = wave - side.

    The wave above 250 Hz with the phases of a short decaying noise, so that the channels are decorrelated;
    the mean of both channels is the wave itself.
    """
    return fir(wave, side_kernel(rate))


@cache
def side_kernel(rate: int) -> Doubles:
    """Filter [TAPS] of the side: flat above FULL_HZ, nothing below LOWEST_HZ."""
    size = 4 * (TAPS + 1)
    noise = np.random.Generator(np.random.PCG64(1)).standard_normal(TAPS // 2)
    spectrum = np.fft.rfft(noise * np.exp(-np.arange(len(noise)) / (DECAY_SECONDS * rate)), size)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    rise = np.clip((frequency - LOWEST_HZ) / (FULL_HZ - LOWEST_HZ), 0, 1)
    shaped = spectrum / np.abs(spectrum) * (0.5 - 0.5 * np.cos(np.pi * rise))
    half = TAPS // 2
    kernel = np.roll(np.fft.irfft(shaped, size), half)[:TAPS] * np.hanning(TAPS + 2)[1:-1]
    return np.asarray(SIDE_GAIN * kernel, np.float64)
