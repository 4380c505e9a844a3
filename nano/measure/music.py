"""Tempo and key of an accompaniment or a mix. Waves are mono [S] at `rate` Hz."""

from __future__ import annotations

import numpy as np

from nano.measure.features import HOP_SECONDS, Doubles, Wave, log_mel, power

SLOWEST, FASTEST = 60.0, 180.0
"""Tempi that are considered, bpm."""
BEATS_COMPARED = (1, 2, 3, 4, 8)
"""Distances in beats at which a tempo is assessed: within a bar, and two bars."""
PREFERRED_BPM, PREFERENCE_OCTAVES = 110.0, 1.0
"""Centre and width of the tempo that is taken when several fit as well."""
TONES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
PROFILES = {
    "major": (1.0, 0.0, 0.55, 0.0, 0.65, 0.45, 0.0, 0.85, 0.0, 0.55, 0.0, 0.35),
    "minor": (1.0, 0.0, 0.35, 0.65, 0.0, 0.60, 0.0, 0.70, 0.40, 0.0, 0.35, 0.25),
}
"""Weight of each semitone above the tonic in a key: its triad most, then its scale."""


OPENING, OPENING_WEIGHT = 0.6, 0.5
"""Seconds at the start that say more of the key, and how much beside the whole."""


def onset_strength(wave: Wave, rate: int) -> Doubles:
    """Rise of the mel bands, mean dB [T] every 10 ms, without its slow part."""
    mel = np.maximum(log_mel(wave, rate, 40, min(16_000, rate / 2), window_s=0.03), -70.0)
    rise = np.maximum(mel[2:] - mel[:-2], 0).mean(axis=1)
    strength = np.pad(rise, 1)
    return strength - strength.mean()


def tempo(wave: Wave, rate: int) -> float:
    """Beats per minute from the autocorrelation of the onsets; 0 where nothing repeats."""
    strength = onset_strength(wave, rate)
    size = 1 << (2 * len(strength)).bit_length()
    spectrum = np.abs(np.fft.rfft(strength, size)) ** 2
    similar = np.fft.irfft(spectrum, size)[: len(strength)]
    if similar[0] <= 1e-9:
        return 0.0
    # a long distance has fewer pairs to add up
    similar /= similar[0] * np.maximum(1 - np.arange(len(similar)) / len(similar), 0.25)
    candidates = SLOWEST * (FASTEST / SLOWEST) ** np.linspace(0, 1, 441)
    score = np.zeros(len(candidates))
    for beats in BEATS_COMPARED:
        lag = beats * 60 / candidates / HOP_SECONDS
        score += np.interp(lag, np.arange(len(similar)), similar, right=0.0)
    distance = np.log2(candidates / PREFERRED_BPM) / PREFERENCE_OCTAVES
    return float(candidates[np.argmax(score * np.exp(-0.5 * distance**2))])


def same_tempo(found: float, asked: float, tolerance: float = 0.04) -> bool:
    """True if `found` is `asked`, its double or its half, within a tolerance."""
    return any(abs(found / (asked * factor) - 1) <= tolerance for factor in (0.5, 1.0, 2.0))


def chroma(wave: Wave, rate: int) -> Doubles:
    """Strength of the twelve pitch classes [12], C first, summing to 1; zeros for silence.

    Square roots of the peaks between 50 and 2000 Hz, so that a loud note does not drown the others.
    """
    spectra = power(wave, rate, 0.25, 0.05, size=1 << round(0.75 * rate).bit_length()).mean(axis=0)
    size = 2 * (len(spectra) - 1)
    amplitude = np.sqrt(spectra)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inner = amplitude[1:-1]
    peaks = 1 + np.flatnonzero((inner > amplitude[:-2]) & (inner >= amplitude[2:]))
    peaks = peaks[(frequency[peaks] > 50) & (frequency[peaks] < 2000)]
    pitch = 69 + 12 * np.log2(frequency[peaks] / 440)
    # between two semitones there is no tone, and high partials say less
    weight = amplitude[peaks] * np.maximum(0, np.cos(np.pi * (pitch - np.round(pitch)))) ** 2
    classes = np.bincount(np.round(pitch).astype(int) % 12, weight, 12)
    return classes / max(classes.sum(), 1e-12)


def key_scores(wave: Wave, rate: int) -> dict[tuple[str, str], float]:
    """Fit of each of the 24 keys, -1 … 1: (tonic, mode) → correlation with the chroma.

    A mean of the whole and of its OPENING: music mostly begins on the tonic, which tells a key from its
    neighbours by a fifth.
    """
    whole = _fits(chroma(wave, rate))
    opening = _fits(chroma(wave[: round(OPENING * rate)], rate))
    total = 1 + OPENING_WEIGHT
    return {key: (fit + OPENING_WEIGHT * opening[key]) / total for key, fit in whole.items()}


def _fits(heard: Doubles) -> dict[tuple[str, str], float]:
    """Correlation of a chroma [12] with each key; of square roots, so that a long chord is not the tonic."""
    found = np.sqrt(heard)
    found = found - found.mean()
    scores = {}
    for mode, profile in PROFILES.items():
        shape = np.array(profile) - np.mean(profile)
        for tonic, name in enumerate(TONES):
            template = np.roll(shape, tonic)
            size = float(np.linalg.norm(found) * np.linalg.norm(template))
            scores[name, mode] = float(found @ template) / size if size > 1e-9 else 0.0
    return scores


def key(wave: Wave, rate: int) -> tuple[str, str]:
    """The best of the 24 keys: such as ("F#", "minor")."""
    scores = key_scores(wave, rate)
    return max(scores, key=lambda name: scores[name])
