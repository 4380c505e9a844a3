"""List of harmonics → sound, by integer steps."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.dsp import resample
from yuegguf.codec.protocol import CODEC_HOP, CODEC_RATE, SONG_HOP, SONG_RATE

Doubles = NDArray[np.float64]
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""One sound at 44.1 kHz [882·F] and at 16 kHz [320·F]."""

STEP = 2.0**-16
"""Every sample is a multiple of it, so that sums in float32 are exact and in any order the same."""
TABLE = 4096
"""Points of one period of a wave table."""
SPREAD = 24
"""Harmonics after which the phases have gone round once."""
HIGHEST = 19_000.0
"""Harmonics end below it, Hz."""


def seconds(frames: int) -> Doubles:
    """Time of each sample [882·frames] at 44.1 kHz."""
    return np.arange(frames * SONG_HOP) / SONG_RATE


def table(harmonics: Doubles) -> Doubles:
    """One period [TABLE + 1] of a sum of harmonics with these amplitudes, of unit rms, ends joined."""
    order = np.arange(1, len(harmonics) + 1)
    spectrum = np.zeros(TABLE // 2 + 1, np.complex128)
    # phases that grow with the square of the order keep the peaks low; the same at every length of the list
    spectrum[1 : len(harmonics) + 1] = harmonics * np.exp(1j * np.pi * order**2 / SPREAD)
    period = np.fft.irfft(spectrum, TABLE)
    period /= np.sqrt(np.mean(period**2))
    return np.append(period, period[0])


def play(wave_table: Doubles, cycles: Doubles) -> Doubles:
    """Read a table [TABLE + 1] at a phase in cycles [S] → [S], linear between its points."""
    place = (cycles - np.floor(cycles)) * TABLE
    left = place.astype(np.int64)
    part = place - left
    return wave_table[left] * (1 - part) + wave_table[left + 1] * part


def fade(wave: Doubles, attack_s: float, release_s: float) -> Doubles:
    """Raise and lower the ends of a wave [S] by half cosines; in place."""
    for length, ends in ((attack_s, wave), (release_s, wave[::-1])):
        count = min(round(length * SONG_RATE), len(wave))
        ends[:count] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / max(count, 1))
    return wave


@lru_cache(maxsize=1)
def _noise() -> Doubles:
    """Two seconds of white noise in -1 … 1, always the same."""
    raw = np.random.PCG64(np.random.SeedSequence(20)).random_raw(2 * SONG_RATE)
    return (raw >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def noise(samples: int, low_hz: float, high_hz: float) -> Doubles:
    """A band of that noise [samples] with unit rms; the edges fall off over a third of an octave."""
    spectrum = np.fft.rfft(_noise()[:samples])
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / SONG_RATE), 1.0))
    rise = np.clip((octaves - np.log2(low_hz)) * 3 + 1, 0, 1)
    fall = np.clip((np.log2(high_hz) - octaves) * 3 + 1, 0, 1)
    wave = np.fft.irfft(spectrum * rise * fall, samples)
    return wave / np.sqrt(np.mean(wave**2))


def at_both_rates(wave: Doubles) -> Pair:
    """Round a wave [882·F] to steps, at 44.1 kHz and resampled to 16 kHz [320·F]."""
    low = resample(wave, SONG_RATE, CODEC_RATE)
    assert len(low) * SONG_HOP == len(wave) * CODEC_HOP
    return _steps(wave), _steps(low)


def _steps(wave: NDArray) -> NDArray[np.float32]:
    out = (np.rint(wave / STEP) * STEP).astype(np.float32)
    out.setflags(write=False)  # they are shared by every song
    return out
