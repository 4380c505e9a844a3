"""The limiter: nothing above the ceiling, nothing changed away from peaks, one gain for several waves."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import limited

from yuegguf.audio import limiter

RATE = 44_100


def noise(samples: int, level: float = 0.3, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)


def test_quiet_waves_are_left_untouched() -> None:
    wave = limiter.clamp(noise(1_000))
    np.testing.assert_array_equal(limited(wave, RATE), wave)
    assert limiter.rescale(wave) is wave
    np.testing.assert_array_equal(limiter.clamp(wave), wave)


@pytest.mark.parametrize("level", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("samples", [1, 300, 50_000])
def test_nothing_passes_the_ceiling(level: float, samples: int) -> None:
    wave = noise(samples, level)
    wave[0] = 500.0
    out = limited(wave, RATE)
    assert out.shape == wave.shape
    assert np.abs(out).max() <= np.float32(0.99)
    assert out[0] == pytest.approx(0.99, abs=1e-6)


def test_limiter_reaches_only_its_neighbourhood_and_moves_smoothly() -> None:
    wave = np.full(3 * RATE, 0.5, np.float32)
    wave[RATE] = 0.99 * 2  # 6.02 dB over: 0.3 s of release
    gain = limited(wave, RATE).astype(np.float64) / wave
    ahead = round(0.005 * RATE)
    assert (gain[: RATE - ahead] == 1).all()
    assert (gain[RATE + round(0.302 * RATE) + ahead :] == 1).all()
    assert gain[RATE] == pytest.approx(0.5, abs=1e-6)
    steps = np.abs(np.diff(20 * np.log10(gain)))
    assert steps.max() < 2.1 * 6.02 / ahead  # a Hann fade: twice the mean slope at most
    assert np.diff(gain)[RATE + 1 :].min() > -1e-6


def test_limiter_holds_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "BLOCK_SAMPLES", 256)
    wave = noise(4_000, 0.2)
    wave[255::256] = 2.0
    assert np.abs(limited(wave, RATE)).max() <= np.float32(0.99)


def test_several_waves_get_one_gain_which_the_loudest_of_them_needs() -> None:
    waves = [noise(30_000, level, seed) for seed, level in enumerate((0.2, 0.6, 0.1))]
    before = [wave.copy() for wave in waves]
    limiter.limit(waves, RATE)
    gains = [after.astype(np.float64) / wave for after, wave in zip(waves, before, strict=True)]
    for gain in gains[1:]:
        np.testing.assert_allclose(gain, gains[0], rtol=1e-5)
    assert gains[0].min() < 0.6
    assert np.abs(waves[1]).max() == pytest.approx(0.99, abs=1e-6)


def test_a_level_above_the_samples_counts() -> None:
    wave = np.full(20_000, 0.5, np.float32)
    level = wave.copy()
    level[10_000] = 2 * 0.99
    limiter.limit([wave], RATE, level=level)
    assert wave[10_000] == pytest.approx(0.25, abs=1e-6)


def test_no_samples_at_all() -> None:
    empty = np.empty(0, np.float32)
    assert limited(empty, RATE).shape == limiter.rescale(empty).shape == limiter.clamp(empty).shape == (0,)


def test_rescale_and_clamp_are_upstreams() -> None:
    wave = noise(1_000, 1.0)
    np.testing.assert_allclose(limiter.rescale(wave), wave * min(0.99 / np.abs(wave).max(), 1), rtol=1e-6)
    np.testing.assert_array_equal(limiter.clamp(wave), np.clip(wave, np.float32(-0.99), np.float32(0.99)))
