"""A singing voice: harmonics of the pitch, shaped by formants, and bands of noise.

A syllable is made of parts that each start on a frame: a consonant (2 frames), a vowel, a consonant (2
frames, the first of them under the vowel's last), a breath (2 frames of silence). Each part depends on its
own phoneme, pitch and length only, and the phase of a vowel is zero where it starts, so the same part is
the same samples wherever it is sung.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nano.corpus.synth import HIGHEST, Doubles, Pair, at_both_rates, fade, noise, play, seconds, table
from nano.corpus.theory import hertz
from yuegguf.codec.protocol import SONG_HOP, SONG_RATE

CONSONANT_FRAMES = 2
OVERLAP_FRAMES = 1
"""Frames by which a vowel and the consonant after it overlap: the voice does not pause between them."""
GAP_FRAMES = 2
LEVEL = 0.11
"""Root mean square of a vowel."""
LOWEST = {"male": 45, "female": 57}
"""Lowest MIDI pitch of a voice: 110 and 220 Hz; melodies stay within SPAN semitones above."""
SPAN = 9
SIZE = {"male": 1.0, "female": 1.16}
"""Factor on all formants."""
VIBRATO_HZ, VIBRATO_DEPTH, VIBRATO_RISE = 5.0, 0.012, 0.25
"""A period is ten frames; depth as part of the pitch, reached after VIBRATO_RISE seconds."""

FORMANTS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "IY": ((280, 60, 1.0), (2300, 110, 0.75), (3000, 150, 0.5)),
    "EH": ((540, 70, 1.0), (1850, 110, 0.7), (2550, 150, 0.4)),
    "AA": ((780, 80, 1.0), (1180, 90, 0.9), (2600, 160, 0.3)),
    "OW": ((460, 70, 1.0), (820, 80, 0.7), (2500, 160, 0.12)),
    "UW": ((310, 60, 1.0), (650, 80, 0.25), (2300, 160, 0.04)),
    "ER": ((480, 70, 0.9), (1250, 90, 0.8), (1650, 100, 0.8)),
    "M": ((250, 80, 1.0), (1000, 200, 0.08), (2200, 250, 0.03)),
    "N": ((260, 80, 1.0), (1650, 200, 0.15), (2600, 250, 0.08)),
    "L": ((350, 80, 1.0), (1100, 120, 0.3), (2900, 200, 0.2)),
    "R": ((400, 80, 0.9), (1150, 100, 0.6), (1550, 100, 0.6)),
    "W": ((300, 70, 1.0), (700, 90, 0.4), (2300, 200, 0.05)),
    "Y": ((260, 60, 1.0), (2250, 120, 0.5), (3100, 180, 0.4)),
}
"""Voiced phoneme → (Hz, bandwidth in Hz, amplitude) of three resonances of a male voice."""
VOICED_LEVEL = {"M": 0.35, "N": 0.35, "L": 0.5, "R": 0.55, "W": 0.5, "Y": 0.5}
"""Loudness of a voiced consonant against a vowel."""


@dataclass(frozen=True)
class Hiss:
    """An unvoiced consonant."""

    band: tuple[float, float]
    level: float
    """Root mean square."""
    burst: bool
    """A frame of silence, then a burst; otherwise noise over both frames."""


HISSES: dict[str, Hiss] = {
    "P": Hiss((400, 1600), 0.10, True),
    "T": Hiss((3500, 9000), 0.10, True),
    "K": Hiss((1500, 3200), 0.11, True),
    "F": Hiss((3000, 14000), 0.025, False),
    "S": Hiss((5500, 15000), 0.060, False),
    "SH": Hiss((2200, 6500), 0.065, False),
    "H": Hiss((700, 3000), 0.030, False),
}
"""Unvoiced phoneme → noise."""


@lru_cache(maxsize=1024)
def vowel(name: str, gender: str, pitch: int, frames: int) -> Pair:
    """A vowel that lasts exactly `frames`, with a vibrato that starts with it."""
    time = seconds(frames)
    depth = VIBRATO_DEPTH * np.minimum(time / VIBRATO_RISE, 1.0)
    swing = 1.0 + depth * np.sin(2 * np.pi * VIBRATO_HZ * time)
    cycles = hertz(pitch) * np.concatenate([[0.0], np.cumsum(swing[:-1])]) / SONG_RATE
    wave = LEVEL * play(_table(name, gender, pitch), cycles)
    wave *= 1.0 - 0.25 * np.minimum(time / 0.6, 1.0)  # a note relaxes
    return at_both_rates(fade(wave, 0.006, 0.020))


@lru_cache(maxsize=512)
def consonant(name: str, gender: str, pitch: int) -> Pair:
    """A consonant before or after a vowel of that pitch; its phase is zero where the vowel starts."""
    time = seconds(CONSONANT_FRAMES)
    if name in VOICED_LEVEL:
        cycles = hertz(pitch) * (time - CONSONANT_FRAMES * SONG_HOP / SONG_RATE)
        wave = LEVEL * VOICED_LEVEL[name] * play(_table(name, gender, pitch), cycles)
        return at_both_rates(fade(wave, 0.010, 0.003))
    hiss = HISSES[name]
    wave = np.zeros(len(time))
    sounding = wave[SONG_HOP:] if hiss.burst else wave
    sounding += hiss.level * noise(len(sounding), *hiss.band)
    if hiss.burst:
        sounding *= np.exp(-time[:SONG_HOP] / 0.008)
        fade(sounding, 0.0005, 0.004)
    return at_both_rates(wave if hiss.burst else fade(wave, 0.012, 0.006))


@lru_cache(maxsize=1024)
def _table(name: str, gender: str, pitch: int) -> Doubles:
    """One period of a phoneme: a falling source through parallel resonances."""
    base = hertz(pitch)
    order = np.arange(1, int(HIGHEST / base) + 1)
    frequency = order * base
    gain = np.full(len(order), 0.004)
    for centre, width, amplitude in FORMANTS[name]:
        centre *= SIZE[gender]
        # wide enough that a harmonic of a high voice always meets it
        half = max(width, 0.25 * base)
        gain += amplitude / np.sqrt(1 + ((frequency - centre) / half) ** 2)
    # a voice fades above its formants
    return table(gain * order**-0.5 / (1 + (frequency / 5000) ** 2))
