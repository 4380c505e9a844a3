"""The measures: laws on signals made for them, and right answers on clean songs of the corpus."""

from __future__ import annotations

import numpy as np
import pytest

from nano.corpus import VOWELS, make_song
from nano.measure import (
    VowelClassifier,
    accuracy,
    chroma,
    fit,
    high_band_correlation,
    key,
    key_scores,
    log_mel_distance,
    pitch_track,
    register,
    same_tempo,
    section_levels,
    si_sdr,
    syllable_count,
    syllable_spans,
    tempo,
)
from nano.measure.features import band_envelope_db, level_db, log_mel, mel_filters, power
from nano.measure.validate import HELD_OUT, corpus_classifier, degradations, validate, vowel_sample

RATE = 16_000
SILENCE = np.zeros(2 * RATE, np.float32)


def sine(hertz: float, seconds: float = 1.0, level: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)


def buzz(hertz: float, seconds: float, level: float = 0.05, rate: int = RATE) -> np.ndarray:
    """Twelve equal harmonics below half the rate."""
    partials = [sine(n * hertz, seconds, level, rate) for n in range(1, 13) if n * hertz < rate / 2]
    return np.sum(partials, axis=0).astype(np.float32)


def clicks(bpm: float, seconds: float = 8.0) -> np.ndarray:
    wave = np.zeros(round(seconds * RATE), np.float32)
    stroke = noise(400) * np.exp(-np.arange(400) / 100).astype(np.float32)
    for start in np.arange(0, len(wave) - 400, 60 / bpm * RATE).astype(int):
        wave[start : start + 400] += stroke
    return wave


# --- features ---


def test_a_sine_has_the_power_of_a_quarter() -> None:
    spectra = power(sine(1000, 0.5), RATE, 0.064)
    assert spectra.shape == (51, 513)
    assert spectra[25].max() == pytest.approx(0.25, rel=1e-3)
    assert np.argmax(spectra[25]) == 64


def test_mel_bands_cover_the_spectrum_once() -> None:
    filters = mel_filters(40, RATE, 4096, 40.0, 8000.0)
    assert filters.shape == (40, 2049)
    inner = filters[:, 60:1900].sum(axis=0)
    np.testing.assert_allclose(inner, 1.0, atol=1e-9)


def test_levels() -> None:
    assert level_db(sine(500)) == pytest.approx(-3.01, abs=0.01)
    assert level_db(SILENCE) == level_db(SILENCE[:0]) == -120
    assert np.all(log_mel(SILENCE, RATE) == -100)
    assert np.all(band_envelope_db(SILENCE, RATE, 100, 200) == -100)
    wave = np.concatenate([SILENCE, sine(500, 2.0, 0.1)])
    assert section_levels(wave, RATE, [(0, 2), (2, 4)]) == pytest.approx([-120, -23.01], abs=0.01)


# --- tempo and key ---


@pytest.mark.parametrize("bpm", [75, 83.3, 93.75, 107.1, 125, 150])
def test_the_tempo_of_clicks(bpm: float) -> None:
    assert same_tempo(tempo(clicks(bpm), RATE), bpm, 0.02)


def test_tempo_of_nothing_is_nothing() -> None:
    assert tempo(SILENCE, RATE) == 0.0
    assert not same_tempo(0.0, 120)


def test_a_tempo_may_be_doubled_or_halved_within_four_percent() -> None:
    assert [same_tempo(120 * f, 120) for f in (0.5, 1, 2, 1.039, 0.961)] == [True] * 5
    assert [same_tempo(120 * f, 120) for f in (0.75, 1.5, 4, 1.05, 0.95)] == [False] * 5


def test_chroma_of_a_tone() -> None:
    found = chroma(sine(440), RATE)
    assert found[9] > 0.95
    assert found.sum() == pytest.approx(1)
    assert not chroma(SILENCE, RATE).any()


@pytest.mark.parametrize("tonic", [0, 5, 11])
@pytest.mark.parametrize(("mode", "chords"), [
    ("major", ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))),
    ("minor", ((0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7))),
])  # fmt: skip
def test_the_key_of_a_cadence(tonic: int, mode: str, chords: tuple[tuple[int, ...], ...]) -> None:
    parts = [
        sum(sine(440 * 2 ** ((48 + tonic + tone - 69) / 12), 0.5, 0.1) for tone in triad) for triad in chords
    ]
    name = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"][tonic]
    assert key(np.concatenate(parts), RATE) == (name, mode)


def test_silence_fits_no_key() -> None:
    assert len(key_scores(SILENCE, RATE)) == 24
    assert set(key_scores(SILENCE, RATE).values()) == {0.0}


# --- singing ---


def test_syllables_are_counted_and_placed() -> None:
    gap = np.zeros(round(0.08 * RATE), np.float32)
    wave = np.concatenate([part for _ in range(6) for part in (buzz(200, 0.25), gap)])
    spans = syllable_spans(wave, RATE)
    assert len(spans) == syllable_count(wave, RATE) == 6
    for i, (start, end) in enumerate(spans):
        assert start == pytest.approx(0.33 * i, abs=0.03)
        assert end - start == pytest.approx(0.25, abs=0.05)


def test_hisses_and_silence_are_no_syllables() -> None:
    assert syllable_spans(SILENCE, RATE) == []
    hiss = noise(RATE // 4, 0.02)
    bright = hiss - np.convolve(hiss, np.ones(5, np.float32) / 5, "same")
    gap = np.zeros(round(0.08 * RATE), np.float32)
    wave = np.concatenate([buzz(200, 0.3), gap, bright, gap, buzz(200, 0.3), gap])
    assert syllable_count(wave, RATE) == 2


@pytest.mark.parametrize("hertz", [110, 147, 185, 220, 294, 370])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_pitch_and_register(hertz: float, rate: int) -> None:
    wave = buzz(hertz, 0.6, rate=rate)
    track = pitch_track(wave, rate)
    assert np.median(track) == pytest.approx(hertz, rel=0.01)
    assert register(wave, rate) == ("male" if hertz < 200 else "female")


def test_nothing_voiced_has_no_register() -> None:
    assert register(SILENCE, RATE) == register(SILENCE[:10], RATE) == ""
    assert np.mean(pitch_track(noise(RATE), RATE) > 0) < 0.05


def test_accuracy_is_the_mean_over_the_vowels_that_were_requested() -> None:
    assert accuracy(["a", "a", "a", "a"], ["a", "a", "a", "b"]) == 0.5
    assert accuracy([], []) == 0.0


def test_a_classifier_tells_two_spectra_apart_at_any_loudness() -> None:
    low, high = buzz(150, 1.0), buzz(150, 1.0) - np.convolve(buzz(150, 1.0), np.ones(8) / 8, "same")
    wave = np.concatenate([low, high]).astype(np.float32)
    spans, names = [(0.0, 1.0), (1.0, 2.0)], ["low", "high"]
    found = fit([(wave, RATE, spans, names)])
    assert isinstance(found, VowelClassifier)
    assert found.classify(0.1 * wave, RATE, [(0.2, 0.5), (1.2, 1.5), (1.50, 1.51)]) == ["low", "high", "high"]


# --- distances ---


def test_log_mel_distance_is_the_gain_and_nothing_for_itself() -> None:
    wave = noise(RATE)
    assert log_mel_distance(wave, wave, RATE) == 0.0
    assert log_mel_distance(2 * wave, wave, RATE) == pytest.approx(6.02, abs=0.01)
    assert log_mel_distance(wave, wave[: RATE // 2], RATE) == 0.0
    assert log_mel_distance(SILENCE, SILENCE, RATE) == 0.0


def test_si_sdr_ignores_the_gain_and_measures_the_rest() -> None:
    wave, other = sine(500), sine(1000)  # orthogonal over a second
    assert si_sdr(3 * wave, wave) > 60
    assert si_sdr(wave + np.float32(0.1) * other, wave) == pytest.approx(20, abs=0.01)
    assert si_sdr(SILENCE, wave) == si_sdr(wave, SILENCE) == -100


def test_high_band_correlation_knows_time_and_frequency() -> None:
    rate = 44_100
    bursts = np.zeros(rate, np.float32)
    for start in range(0, rate - 2000, rate // 8):
        bursts[start : start + 2000] = noise(2000, seed=start)
    assert high_band_correlation(bursts, bursts) == pytest.approx(1)
    assert high_band_correlation(0.5 * bursts, bursts) > 0.99
    assert high_band_correlation(np.roll(bursts, 2700), bursts) < 0
    assert high_band_correlation(sine(440, rate=rate), bursts) < 0.2
    assert high_band_correlation(np.zeros_like(bursts), bursts) == 0.0


# --- the corpus ---


@pytest.fixture(scope="module")
def classifier() -> VowelClassifier:
    return corpus_classifier(12)


def test_clean_songs_are_measured_right(classifier: VowelClassifier) -> None:
    found = validate(range(HELD_OUT, HELD_OUT + 20), classifier)
    assert found["tempo"] >= 0.97
    assert found["key"] >= 0.95
    assert found["onsets"] >= 0.95
    assert found["register"] >= 0.99
    assert found["silence_db"] >= 25
    assert found["vowels"] >= 5 / len(VOWELS)
    assert classifier.names == tuple(sorted(VOWELS))


def test_vowels_of_another_text_are_not_found(classifier: VowelClassifier) -> None:
    song = next(s for s in map(make_song, range(HELD_OUT, HELD_OUT + 20)) if s.spec.gender)
    wave, rate, spans, names = vowel_sample(song)
    found = classifier.classify(wave, rate, spans)
    assert accuracy(found[1:] + found[:1], names) < 0.5 < accuracy(found, names)
    hissing = wave + noise(len(wave), 0.02)
    assert accuracy(classifier.classify(hissing, rate, spans), names) > 0.9


def test_damage_is_seen() -> None:
    seen = degradations(make_song(HELD_OUT))
    assert seen["log_mel_self"] == 0.0 < seen["log_mel_noise"]
    assert 0 < seen["si_sdr_noise"] < 30
    assert seen["high_self"] == pytest.approx(1)
    assert seen["high_silent"] == 0.0
