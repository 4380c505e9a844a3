"""Estimates of tempo, beats, bars and key of music. Waves are mono [S] at `rate` Hz.

Checked on clicks and chords, and on songs of known tempo and key.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.dsp import Wave, resample
from yuegguf.audio.spectra import HOP_SECONDS, Doubles, Samples, log_mel, power_blocks

Integers = NDArray[np.int64]

ESTIMATE_RATE = 16_000
"""Rate at which songs are measured, Hz."""
SHORTEST_SECONDS = 4.0
"""Length below which nothing is estimated."""
SLOWEST, FASTEST = 60.0, 180.0
"""Tempi that are considered, bpm."""
BEATS_COMPARED = (1, 2, 3, 4, 8)
"""Distances in beats at which a tempo is assessed: within a bar, and two bars."""
PREFERRED_BPM, PREFERENCE_OCTAVES = 110.0, 1.0
"""Centre and width of the tempo that is taken when several fit as well."""
TIGHTNESS = 100.0
"""Cost of a beat that is off the tempo, as in Ellis, "Beat Tracking by Dynamic Programming" (2007)."""
BEATS_PER_BAR = 4
OPENING, OPENING_WEIGHT = 0.6, 0.5
"""Seconds at the start that say more of the key, and how much beside the whole."""
TONES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
PROFILES = {
    "major": (1.0, 0.0, 0.55, 0.0, 0.65, 0.45, 0.0, 0.85, 0.0, 0.55, 0.0, 0.35),
    "minor": (1.0, 0.0, 0.35, 0.65, 0.0, 0.60, 0.0, 0.70, 0.40, 0.0, 0.35, 0.25),
}
"""Weight of each semitone above the tonic in a key: its triad most, then its scale."""
SURE = 0.4
"""Confidence from which on an estimate is written into tags and tempo maps."""
KEY_MARGIN = 0.2
"""Lead of the best key over the next, in correlation, at which it is sure."""


@dataclass(frozen=True)
class MusicEstimate:
    """Tempo, beats and key of a song, each with a confidence of 0 to 1."""

    bpm: float
    """Beats per minute."""
    tempo_confidence: float
    beats: tuple[float, ...]
    """Seconds of each beat."""
    first_bar: int
    """Number of the first beat that begins a bar; bars have BEATS_PER_BAR beats."""
    bar_confidence: float
    key: str
    """Tonic and mode, such as "F# minor"."""
    key_confidence: float

    @property
    def short_key(self) -> str:
        """The key as ID3 writes it, such as F#m."""
        tonic, mode = self.key.split()
        return tonic + ("m" if mode == "minor" else "")


def estimate_music(wave: Wave, rate: int) -> MusicEstimate | None:
    """Estimates of a mix [S]; None for less than SHORTEST_SECONDS, and for silence."""
    if len(wave) < SHORTEST_SECONDS * rate:
        return None
    low = resample(wave, rate, ESTIMATE_RATE)
    strength = onset_strength(low, ESTIMATE_RATE)
    bpm, tempo_confidence = _tempo(strength)
    scores = sorted(key_scores(low, ESTIMATE_RATE).items(), key=lambda item: -item[1])
    (tonic, mode), best = scores[0]
    if not bpm or best <= 0:
        return None
    beats = _beats(strength, bpm)
    first_bar, bar_confidence = _first_bar(low, beats)
    return MusicEstimate(
        bpm=_refined(bpm, beats),
        tempo_confidence=round(tempo_confidence, 3),
        beats=tuple(round(float(beat) * HOP_SECONDS, 3) for beat in beats),
        first_bar=first_bar,
        bar_confidence=round(bar_confidence, 3),
        key=f"{tonic} {mode}",
        key_confidence=round(min(1.0, max(0.0, (best - scores[1][1]) / KEY_MARGIN)), 3),
    )


# --- tempo --------------------------------------------------------------------------------------------


def onset_strength(wave: Samples, rate: int) -> Doubles:
    """Rise of the mel bands, mean dB [T] every 10 ms, without its slow part."""
    mel = np.maximum(log_mel(wave, rate, 40, min(16_000, rate / 2), window_s=0.03), -70.0)
    rise = np.maximum(mel[2:] - mel[:-2], 0).mean(axis=1)
    strength = np.pad(rise, 1)
    return np.asarray(strength - strength.mean(), np.float64)


def tempo(wave: Samples, rate: int) -> float:
    """Beats per minute from the autocorrelation of the onsets; 0 where nothing repeats."""
    return _tempo(onset_strength(wave, rate))[0]


def _tempo(strength: Doubles) -> tuple[float, float]:
    """Beats per minute, and the mean autocorrelation of the onsets at that tempo's distances."""
    size = 1 << (2 * len(strength)).bit_length()
    spectrum = np.abs(np.fft.rfft(strength, size)) ** 2
    similar = np.fft.irfft(spectrum, size)[: len(strength)]
    if similar[0] <= 1e-9:
        return 0.0, 0.0
    # a long distance has fewer pairs to add up
    similar /= similar[0] * np.maximum(1 - np.arange(len(similar)) / len(similar), 0.25)
    candidates = SLOWEST * (FASTEST / SLOWEST) ** np.linspace(0, 1, 441)
    score = np.zeros(len(candidates))
    for beats in BEATS_COMPARED:
        lag = beats * 60 / candidates / HOP_SECONDS
        score += np.interp(lag, np.arange(len(similar)), similar, right=0.0)
    distance = np.log2(candidates / PREFERRED_BPM) / PREFERENCE_OCTAVES
    best = int(np.argmax(score * np.exp(-0.5 * distance**2)))
    return float(candidates[best]), float(score[best] / len(BEATS_COMPARED))


def _beats(strength: Doubles, bpm: float) -> Integers:
    """Times of beats in steps of HOP_SECONDS: on strong onsets, and evenly spaced (Ellis 2007)."""
    period = 60 / bpm / HOP_SECONDS
    lags = np.arange(round(period / 2), round(2 * period) + 1)
    cost = -TIGHTNESS * np.log(lags / period) ** 2
    local = np.convolve(
        strength / (strength.std() + 1e-12), np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2), "same"
    )
    total, before = local.copy(), np.full(len(local), -1)
    for place in range(int(lags[0]), len(local)):
        reach = lags[: np.searchsorted(lags, place, side="right")]
        options = total[place - reach] + cost[: len(reach)]
        best = int(np.argmax(options))
        if options[best] > 0:
            total[place], before[place] = local[place] + options[best], place - reach[best]
    place = int(len(total) - 1 - np.argmax(total[::-1][: int(2 * period)]))
    beats = []
    while place >= 0:
        beats.append(place)
        place = int(before[place])
    return np.array(beats[::-1])


def _refined(bpm: float, beats: Integers) -> float:
    """The tempo of evenly spaced beats, which is finer than the grid of tempi; else the tempo itself."""
    if len(beats) < 8:
        return round(bpm, 2)
    slope = float(np.polyfit(np.arange(len(beats)), beats * HOP_SECONDS, 1)[0])
    fine = 60 / slope
    return round(fine if abs(fine / bpm - 1) < 0.02 else bpm, 2)


def _first_bar(wave: Samples, beats: Integers) -> tuple[int, float]:
    """The beat of the first bar line, where most begins below 2 kHz, and how plainly."""
    if len(beats) < 2 * BEATS_PER_BAR:
        return 0, 0.0
    low = log_mel(wave, ESTIMATE_RATE, 24, 2000.0, window_s=0.064)
    edges = np.append(beats, len(low))
    means = np.stack([low[a : max(b, a + 1)].mean(axis=0) for a, b in pairwise(edges)])
    change = np.maximum(np.diff(means, axis=0, prepend=means[:1]), 0).mean(axis=1)
    change[0] = change[1:].mean()
    change = (change - change.mean()) / (change.std() + 1e-12)
    scores = [float(change[phase::BEATS_PER_BAR].mean()) for phase in range(BEATS_PER_BAR)]
    first, second = sorted(scores, reverse=True)[:2]
    return scores.index(first), min(1.0, max(0.0, first - second))


# --- key ----------------------------------------------------------------------------------------------


def chroma(wave: Samples, rate: int) -> Doubles:
    """Strength of the twelve pitch classes [12], C first, summing to 1; zeros for silence.

    Square roots of the peaks between 50 and 2000 Hz, so that a loud note does not drown the others.
    """
    total, count = np.zeros(0), 0
    for block in power_blocks(wave, rate, 0.25, 0.05, size=1 << round(0.75 * rate).bit_length()):
        total = block.sum(axis=0) + (total if count else 0)
        count += len(block)
    amplitude = np.sqrt(total / count)
    size = 2 * (len(amplitude) - 1)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inner = amplitude[1:-1]
    peaks = 1 + np.flatnonzero((inner > amplitude[:-2]) & (inner >= amplitude[2:]))
    peaks = peaks[(frequency[peaks] > 50) & (frequency[peaks] < 2000)]
    pitch = 69 + 12 * np.log2(frequency[peaks] / 440)
    # between two semitones there is no tone, and high partials say less
    weight = amplitude[peaks] * np.maximum(0, np.cos(np.pi * (pitch - np.round(pitch)))) ** 2
    classes = np.bincount(np.round(pitch).astype(int) % 12, weight, 12)
    return np.asarray(classes / max(classes.sum(), 1e-12), np.float64)


def key_scores(wave: Samples, rate: int) -> dict[tuple[str, str], float]:
    """Fit of each of the 24 keys, -1 … 1: (tonic, mode) → correlation with the chroma.

    A mean of the whole and of its OPENING: music mostly begins on the tonic, which tells a key from its
    neighbours by a fifth.
    """
    whole = _fits(chroma(wave, rate))
    opening = _fits(chroma(wave[: round(OPENING * rate)], rate))
    total = 1 + OPENING_WEIGHT
    return {key: (fit + OPENING_WEIGHT * opening[key]) / total for key, fit in whole.items()}


def _fits(classes: Doubles) -> dict[tuple[str, str], float]:
    """Correlation of a chroma [12] with each key; of square roots, so that a long chord is not the tonic."""
    given = np.sqrt(classes)
    given = given - given.mean()
    scores = {}
    for mode, profile in PROFILES.items():
        shape = np.array(profile) - np.mean(profile)
        for tonic, name in enumerate(TONES):
            template = np.roll(shape, tonic)
            size = float(np.linalg.norm(given) * np.linalg.norm(template))
            scores[name, mode] = float(given @ template) / size if size > 1e-9 else 0.0
    return scores


def key(wave: Samples, rate: int) -> tuple[str, str]:
    """The best of the 24 keys: such as ("F#", "minor")."""
    scores = key_scores(wave, rate)
    return max(scores, key=lambda name: scores[name])
