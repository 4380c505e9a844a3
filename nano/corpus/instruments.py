"""Drums, basses, chords and leads. The same (sound, pitch, frames) always gives the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nano.corpus.synth import HIGHEST, TABLE, Doubles, Pair, at_both_rates, fade, noise, play, seconds, table
from nano.corpus.theory import hertz


@dataclass(frozen=True)
class Timbre:
    """A tone: a bright wave table at the attack that gives way to a dark one."""

    level: float
    """Root mean square at the attack, full scale = 1."""
    slope: float
    """Harmonic n has the amplitude n^-slope."""
    decay: float
    """Seconds until the level is down to 1/e; 0 = held."""
    attack: float = 0.004
    count: int = 40
    """Number of harmonics."""
    odd: bool = False
    """Odd harmonics alone."""
    pluck: float = 0.0
    """Place at which the string is plucked, 0 … 1 of its length, which weakens harmonics; 0 = no string."""
    drive: float = 0.0
    """Share added by a soft clipper."""
    closing: float = 0.15
    """Seconds in which the bright table gives way to the dark one."""


TIMBRES: dict[str, Timbre] = {
    "round": Timbre(0.120, 1.8, 0.9, count=8),
    "pick": Timbre(0.100, 1.1, 0.6, count=24),
    "upright": Timbre(0.130, 1.6, 0.35, count=12, attack=0.006),
    "synth": Timbre(0.100, 1.1, 0.8, count=20, odd=True),
    "sub": Timbre(0.150, 2.4, 1.2, count=4, attack=0.008),
    "piano": Timbre(0.050, 1.3, 0.7),
    "drive": Timbre(0.038, 1.2, 0.0, drive=1.2, closing=0.2),
    "guitar": Timbre(0.065, 1.0, 0.5, pluck=0.22),
    "saw": Timbre(0.042, 0.9, 0.0, attack=0.008, closing=0.12),
    "epiano": Timbre(0.055, 1.9, 0.8, odd=True, count=12),
    "keys": Timbre(0.055, 1.6, 0.5, count=16),
    "bell": Timbre(0.070, 1.4, 0.6, count=9, odd=True),
    "square": Timbre(0.055, 1.0, 0.0, attack=0.006, odd=True),
    "flute": Timbre(0.075, 2.4, 0.0, attack=0.030, count=8),
    "sax": Timbre(0.060, 0.9, 0.0, attack=0.020, count=18),
}
"""Name → tone; the names are those of the genres' tables."""
LEVEL = 0.6
"""Factor on all of them: the loudest song with its voice stays below full scale."""
BRIGHT, DARK = 0.0, 0.7
"""Added to a slope at the attack, and after it; mellow moods add half of the latter to both."""
RELEASE = 0.020
"""Seconds of every note's end."""


@lru_cache(maxsize=1024)
def note(name: str, pitch: int, frames: int, mellow: bool = False) -> Pair:
    """A tone of that MIDI pitch that lasts exactly `frames`."""
    timbre = TIMBRES[name]
    time = seconds(frames)
    extra = DARK / 2 if mellow else 0.0
    cycles = hertz(pitch) * time
    opening = np.exp(-time / timbre.closing)
    wave = opening * play(_table(timbre, pitch, BRIGHT + extra), cycles)
    wave += (1 - opening) * play(_table(timbre, pitch, DARK + extra), cycles)
    if timbre.decay:
        wave *= np.exp(-time / timbre.decay)
    return at_both_rates(fade(wave * LEVEL * timbre.level, timbre.attack, RELEASE))


@lru_cache(maxsize=512)
def _table(timbre: Timbre, pitch: int, extra: float) -> Doubles:
    order = np.arange(1, min(timbre.count, int(HIGHEST / hertz(pitch))) + 1)
    harmonics = order ** -(timbre.slope + extra)
    if timbre.odd:
        harmonics *= np.where(order % 2, 1.0, 0.08)
    if timbre.pluck:
        harmonics *= np.abs(np.sin(np.pi * order * timbre.pluck)) + 0.05
    if not timbre.drive:
        return table(harmonics)
    clipped = np.tanh(timbre.drive * table(harmonics)[:-1])
    # the clipper makes harmonics that the sample rate cannot hold
    kept = np.fft.rfft(clipped)[1 : int(HIGHEST / hertz(pitch)) + 1]
    period = np.fft.irfft(np.concatenate([[0], kept, np.zeros(TABLE // 2 - len(kept))]), TABLE)
    period /= np.sqrt(np.mean(period**2))
    return np.append(period, period[0])


@dataclass(frozen=True)
class Drum:
    """A falling sine and a band of noise, each with its own decay."""

    frames: int
    tone: float = 0.0
    """Peak of the sine."""
    high: float = 0.0
    low: float = 0.0
    """Hz at the stroke and after it."""
    tone_decay: float = 0.05
    hiss: float = 0.0
    """Root mean square of the noise at the stroke."""
    band: tuple[float, float] = (1000.0, 8000.0)
    hiss_decay: float = 0.03
    partials: tuple[float, ...] = (1.0,)
    """Frequencies of further sines as multiples of the first."""


DRUMS: dict[str, Drum] = {
    "kick": Drum(8, 0.42, 170, 52, 0.060, 0.10, (1500, 5000), 0.004),
    "boom": Drum(10, 0.45, 130, 46, 0.090, 0.05, (1000, 3000), 0.004),
    "stomp": Drum(6, 0.36, 120, 70, 0.045, 0.03, (300, 1200), 0.015),
    "snare": Drum(7, 0.20, 240, 185, 0.040, 0.16, (900, 9000), 0.040),
    "thud": Drum(8, 0.26, 210, 150, 0.050, 0.17, (500, 7000), 0.050),
    "clap": Drum(6, 0.0, 0, 0, 0.05, 0.17, (900, 3500), 0.035),
    "rim": Drum(3, 0.16, 820, 800, 0.012, 0.08, (1500, 5000), 0.006),
    "hat": Drum(3, 0.0, 0, 0, 0.05, 0.075, (7000, 18000), 0.014),
    "shaker": Drum(4, 0.0, 0, 0, 0.05, 0.060, (4500, 12000), 0.022),
    "ride": Drum(6, 0.03, 3200, 3200, 0.050, 0.045, (6000, 16000), 0.020, (1.0, 1.48, 2.09, 2.71)),
}
"""Name → drum; the names are those of the genres' patterns."""


@lru_cache(maxsize=256)
def drum(name: str, frames: int) -> Pair:
    """A stroke, cut to `frames` if it would ring longer."""
    made = DRUMS[name]
    frames = min(frames, made.frames)
    time = seconds(frames)
    wave = np.zeros(len(time))
    if made.tone:
        glide = 0.02  # seconds of the fall from `high` to `low`
        cycles = made.low * time + (made.high - made.low) * glide * (1 - np.exp(-time / glide))
        for ratio in made.partials:
            wave += made.tone * np.sin(2 * np.pi * ratio * cycles) * np.exp(-time / made.tone_decay)
    if made.hiss:
        wave += made.hiss * noise(len(time), *made.band) * np.exp(-time / made.hiss_decay)
    return at_both_rates(fade(wave * LEVEL, 0.0005, 0.010))
