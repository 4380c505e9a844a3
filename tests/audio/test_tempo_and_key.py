"""Tempo, beats, bars and key of sounds of which all are known."""

from __future__ import annotations

import numpy as np
import pytest

from nano.corpus.render import make_song
from yuegguf.audio.tempo_and_key import SURE, TONES, MusicEstimate, estimate_music

RATE = 16_000


def clicks(bpm: float, seconds: float, first: float = 0.0, strong: int = 4) -> np.ndarray:
    """Short noises on the beat; every `strong`-th, from the first on, also has a low tone."""
    wave = np.zeros(round(seconds * RATE), np.float32)
    sound = np.random.default_rng(0).standard_normal(800) * np.exp(-np.arange(800) / 150) * 0.3
    low = 0.5 * np.sin(2 * np.pi * 110 * np.arange(6000) / RATE) * np.exp(-np.arange(6000) / 2000)
    for number, start in enumerate(np.arange(first, seconds - 0.5, 60 / bpm)):
        place = round(start * RATE)
        wave[place : place + 800] += sound
        if number % strong == 0:
            wave[place : place + 6000] += low
    return wave


def estimated(wave: np.ndarray) -> MusicEstimate:
    found = estimate_music(wave, RATE)
    assert found is not None
    return found


@pytest.mark.parametrize("bpm", [72.0, 97.3, 120.0, 144.0])
def test_a_click_track_has_its_tempo_its_beats_and_its_bars(bpm: float) -> None:
    found = estimated(clicks(bpm, 16, first=0.4))
    assert found.bpm == pytest.approx(bpm, rel=0.003)
    assert found.tempo_confidence > 0.8
    truth = np.arange(0.4, 15.4, 60 / bpm)
    beats = np.array(found.beats)
    assert all(np.abs(beats - beat).min() < 0.03 for beat in truth)
    bars = np.arange(0.4, 17, 4 * 60 / bpm)
    assert np.abs(beats[found.first_bar :: 4][:, None] - bars).min(axis=1).max() < 0.03
    assert found.bar_confidence > SURE


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(6 * RATE, np.float32),
        np.full(6 * RATE, 0.5, np.float32),
        clicks(120, 3.9),
        np.empty(0, np.float32),
    ],
)
def test_silence_and_moments_have_no_estimate(wave: np.ndarray) -> None:
    assert estimate_music(wave, RATE) is None


def test_noise_is_not_sure() -> None:
    noise = (0.1 * np.random.default_rng(1).standard_normal(12 * RATE)).astype(np.float32)
    found = estimated(noise)
    assert found.tempo_confidence < SURE


@pytest.mark.parametrize(("tonic", "mode"), [(0, "major"), (6, "minor"), (9, "minor"), (10, "major")])
def test_chords_have_their_key(tonic: int, mode: str) -> None:
    """I, IV, V, I in the mode, each half a second."""
    third = 4 if mode == "major" else 3
    t = np.arange(RATE // 2) / RATE
    bars = []
    for root in (0, 5, 7, 0):
        pitches = [48 + tonic + root + step for step in (0, third if root != 7 else 4, 7, 12)]
        tones = [np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * t) for pitch in pitches]
        bars.append(0.1 * np.sum(tones, axis=0) * np.exp(-3 * t))
    found = estimated(np.tile(np.concatenate(bars), 3).astype(np.float32))
    assert found.key == f"{TONES[tonic]} {mode}"
    assert found.short_key == TONES[tonic] + ("m" if mode == "minor" else "")


@pytest.mark.slow
def test_songs_of_known_music_have_their_tempo_beats_and_key() -> None:
    """The synthetic songs that the bundled model learned from."""
    hits = []
    for seed in range(6):
        song = make_song(seed)
        found = estimate_music(song.mix, 44_100)
        assert found is not None
        truth = 0.02 * np.array(song.labels.beats)
        near = np.abs(np.array(found.beats)[:, None] - truth).min(axis=0) < 0.07
        bars = np.array(found.beats[found.first_bar :: 4])
        hits.append(
            (
                abs(found.bpm / song.labels.bpm - 1) < 0.01,
                found.key == f"{song.labels.key} {song.labels.mode}",
                near.mean() > 0.9,
                np.mean(np.abs(bars[:, None] - truth[::4]).min(axis=0) < 0.07) > 0.7,
            )
        )
    assert np.sum(hits, axis=0).min() >= 5
