"""The signal maths against golden data, scipy, and the laws that each function promises."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, gcd
from pathlib import Path

import numpy as np
import pytest

from yuegguf.audio import dsp

RATE = 44_100
Golden = Callable[[str], Path]


def noise(samples: int, level: float = 0.3, seed: int = 0) -> dsp.Wave:
    return (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)


def tones(rate: int, frequencies: np.ndarray, seconds: float = 3.0) -> dsp.Wave:
    """A sum of sines with fixed phases: the same sound at every rate, as far as the rate reaches."""
    t = np.arange(round(seconds * rate)) / rate
    phases = np.random.default_rng(1).uniform(0, 2 * np.pi, len(frequencies))
    audible = frequencies < rate / 2
    pairs = zip(frequencies[audible], phases[audible], strict=True)
    return np.sum([0.008 * np.sin(2 * np.pi * f * t + p) for f, p in pairs], axis=0).astype(np.float32)


def gains_db(out: dsp.Wave, reference: dsp.Wave, frequencies: np.ndarray) -> np.ndarray:
    """Gain at each frequency (multiples of 0.5 Hz), from two seconds in the middle."""
    middle = slice(RATE // 2, RATE // 2 + 2 * RATE)
    window, bins = np.hanning(2 * RATE), np.round(frequencies * 2).astype(int)
    spectra = [np.abs(np.fft.rfft(wave[middle] * window))[bins] for wave in (out, reference)]
    return 20 * np.log10(spectra[0] / spectra[1])


# --- resampling ---


@pytest.mark.parametrize(
    ("given", "source", "target", "expected"),
    [
        ("in44", 44100, 16000, "out16"),
        ("in16", 16000, 44100, "out44"),
        ("in48", 48000, 16000, "out16_from48"),
    ],
)
def test_resample_equals_torchaudio(
    golden: Golden, given: str, source: int, target: int, expected: str
) -> None:
    data = np.load(golden("resample.npz"))
    out = dsp.resample(data[given], source, target)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, data[expected], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "source", "target"), [("44to16", 441, 160), ("16to44", 160, 441)])
def test_kernels_are_bit_exact(golden: Golden, name: str, source: int, target: int) -> None:
    expected = np.load(golden("resample.npz"))[f"kernel_{name}"][:, 0]
    first, kernel = dsp.resample_kernel(source, target)
    dense = np.zeros((target, source + 4 * kernel.shape[1]), np.float32)
    np.put_along_axis(dense, first[:, None] - first[0] + np.arange(kernel.shape[1]), kernel, axis=1)
    np.testing.assert_array_equal(dense[:, : expected.shape[1]], expected)
    assert not dense[:, expected.shape[1] :].any()


def test_golden_lengths(golden: Golden) -> None:
    data = np.load(golden("resample.npz"))
    for name in (name for name in data if name.startswith("len_44to16_")):
        samples, down, up = data[name]
        assert len(dsp.resample(np.zeros(samples, np.float32), 44100, 16000)) == down
        assert len(dsp.resample(np.zeros(samples, np.float32), 16000, 44100)) == up


@pytest.mark.parametrize(
    ("source", "target"), [(22050, 16000), (96000, 16000), (8000, 44100), (16001, 16000), (44100, 48000)]
)
@pytest.mark.parametrize("samples", [1, 2, 997])
def test_any_rates_follow_the_formula(source: int, target: int, samples: int) -> None:
    wave = noise(samples)
    o, n = source // gcd(source, target), target // gcd(source, target)
    base = 0.99 * min(o, n)
    period, phase = np.divmod(np.arange(ceil(samples * n / o)), n)
    offset = (phase.astype(np.float32) / np.float32(n)).astype(np.float64)  # torchaudio's phases are float32
    t = ((np.arange(samples)[None, :] - period[:, None] * o) / o - offset[:, None]) * base
    kernel = np.where(np.abs(t) < 6, np.cos(np.pi * t / 12) ** 2 * np.sinc(t), 0) * base / o
    np.testing.assert_allclose(dsp.resample(wave, source, target), kernel @ wave, rtol=0, atol=2e-6)


def test_one_frame_is_882_samples() -> None:
    for frames in (0, 1, 7, 300):
        assert len(dsp.resample(np.zeros(320 * frames, np.float32), 16000, 44100)) == 882 * frames


def test_equal_rates_return_the_wave() -> None:
    wave = noise(10)
    assert dsp.resample(wave, 16000, 16000) is wave


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noise(5_000)
    b, a = dsp.biquad_coefficients("lowpass", 300.0, RATE)
    jobs: list[Callable[[], dsp.Wave]] = [
        lambda: dsp.resample(wave, 16000, 44100),
        lambda: dsp.lfilter(wave, b, a),
        lambda: dsp.cross_over([wave], [wave[::-1].copy()], RATE)[0],
    ]
    whole = [job() for job in jobs]
    monkeypatch.setattr(dsp, "BLOCK_SAMPLES", 512)
    for job, expected in zip(jobs, whole, strict=True):
        np.testing.assert_allclose(job(), expected, rtol=0, atol=1e-6)


# --- filters ---


def test_biquads_equal_torchaudio(golden: Golden) -> None:
    data = np.load(golden("post.npz"))
    low = dsp.low_pass(data["filters_in"], 5500.0, RATE)
    high = dsp.high_pass(data["filters_in"], 5500.0, RATE)
    np.testing.assert_allclose(low, data["lowpass5500"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(high, data["highpass5500"], rtol=0, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("cutoff", [40.0, 5500.0, 15000.0])
@pytest.mark.parametrize("samples", [0, 1, 127, 129, dsp.BLOCK_SAMPLES + 5])
def test_lfilter_equals_scipy(cutoff: float, samples: int) -> None:
    from scipy import signal  # two seconds

    wave = noise(samples)
    b, a = dsp.biquad_coefficients("lowpass", cutoff, RATE)
    expected = signal.lfilter(b, a, wave.astype(np.float64)) if samples else wave
    np.testing.assert_allclose(dsp.lfilter(wave, b, a, clamp=False), expected, rtol=0, atol=2e-7)


@pytest.mark.slow
def test_only_the_output_is_clamped() -> None:
    from scipy import signal  # two seconds

    wave = noise(10_000, 3.0)
    b, a = dsp.biquad_coefficients("lowpass", 5500.0, RATE)
    expected = np.clip(signal.lfilter(b, a, wave.astype(np.float64)), -1, 1)
    assert np.abs(expected).max() == 1
    np.testing.assert_allclose(dsp.lfilter(wave, b, a), expected, rtol=0, atol=1e-6)


def test_coefficients_are_the_published_ones() -> None:
    low, _ = dsp.biquad_coefficients("lowpass", 5500.0, RATE)
    high, a = dsp.biquad_coefficients("highpass", 5500.0, RATE)
    np.testing.assert_allclose(low, [0.09726458, 0.19452916, 0.09726458], atol=1e-7)
    np.testing.assert_allclose(high, [0.5697649, -1.1395298, 0.5697649], atol=1e-7)
    np.testing.assert_allclose(a, [1, -0.94500065, 0.33405896], atol=1e-7)


@pytest.mark.parametrize("samples", [1, 100, 16_384, 40_001])
def test_fir_equals_convolution(samples: int) -> None:
    wave, kernel = noise(samples), dsp.crossover_kernel(5500.0, RATE)
    half = len(kernel) // 2
    expected = np.convolve(wave, kernel)[half : half + samples]
    np.testing.assert_allclose(dsp.fir(wave, kernel), expected, rtol=0, atol=1e-7)


# --- crossovers ---


@pytest.mark.parametrize("case", ["basic", "b_longer", "clamp", "same_rate"])
def test_upstream_mix_equals_golden(golden: Golden, case: str) -> None:
    data = np.load(golden("post.npz"))
    rate = RATE if case == "same_rate" else 16_000
    out = dsp.mix_upstream(data[f"{case}_a"], data[f"{case}_b"], rate, RATE)
    np.testing.assert_allclose(out, data[f"{case}_c"], rtol=0, atol=2e-6)


FREQUENCIES = np.unique(np.append(np.round(np.geomspace(20, 20_000, 120)), [5400, 5500, 5600]))


def test_hybrid_is_flat_where_upstream_has_a_hole() -> None:
    codec, vocos = tones(16_000, FREQUENCIES), tones(RATE, FREQUENCIES)
    (joined,) = dsp.cross_over([dsp.resample(codec, 16_000, RATE)], [vocos], RATE)
    hybrid = gains_db(joined, vocos, FREQUENCIES)
    assert np.abs(hybrid).max() < 0.1
    upstream = gains_db(dsp.mix_upstream(codec, vocos, 16_000, RATE), vocos, FREQUENCIES)
    assert upstream[FREQUENCIES == 5500] < -35


def test_equal_bands_give_the_wave_back() -> None:
    wave = noise(30_000)
    np.testing.assert_allclose(dsp.cross_over([wave], [wave], RATE)[0], wave, rtol=0, atol=1e-6)


def test_each_band_comes_from_its_own_wave() -> None:
    t = np.arange(RATE) / RATE
    low = (0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    high = (0.3 * np.sin(2 * np.pi * 9_000 * t) + 0.2 * np.sin(2 * np.pi * 700 * t)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(dsp.cross_over([low], [high], RATE)[0] * np.hanning(RATE))) * 4 / RATE
    assert spectrum[440] == pytest.approx(0.2, abs=1e-3)  # the codec's note, matched to Vocos' energy
    assert spectrum[9_000] == pytest.approx(0.3, abs=1e-3)
    assert spectrum[700] < 1e-4


@pytest.mark.parametrize("level", [0.0, 1e-7])
def test_a_silent_low_band_is_not_blown_up(level: float) -> None:
    vocos = noise(20_000)
    assert dsp.cross_over([noise(20_000, level, seed=1)], [vocos], RATE)[0] is vocos


def test_silence_stays_silent() -> None:
    nothing = np.zeros(1_000, np.float32)
    assert not dsp.cross_over([nothing], [nothing], RATE)[0].any()
    assert not dsp.cross_over([noise(1_000)], [nothing], RATE)[0].max() > 1e-6
    assert not dsp.mix_upstream(nothing, nothing, RATE, RATE).any()


def test_no_samples_at_all() -> None:
    empty = np.empty(0, np.float32)
    assert dsp.mix_upstream(empty, empty, 16_000, RATE).shape == (0,)
    assert dsp.cross_over([empty], [empty], RATE)[0].shape == (0,)


def test_crossed_over_parts_sum_to_the_crossover_of_their_sums() -> None:
    """So the stems of a song sum to its mix, whatever the codec and the upsamplers disagree about."""
    lows, highs = ([noise(30_000, 0.2, seed) for seed in seeds] for seeds in ((1, 2), (3, 4)))
    parts = dsp.cross_over(lows, highs, RATE)
    (whole,) = dsp.cross_over([lows[0] + lows[1]], [highs[0] + highs[1]], RATE)
    np.testing.assert_allclose(parts[0] + parts[1], whole, rtol=0, atol=1e-6)
    for part, high in zip(parts, highs, strict=True):
        assert np.abs(part - high).max() > 0.01
