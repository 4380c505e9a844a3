"""Loudness and true peaks against the standard's own figures, pyloudnorm and ffmpeg."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from yuegguf.audio import loudness
from yuegguf.audio.loudness import integrated_loudness, k_weighting, true_peak_level

RATE = 44_100


def music(seconds: float = 6.0, rate: int = RATE) -> np.ndarray:
    """Noise and a bass note that come and go, with a quiet part that the gates leave out."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.1 * np.random.default_rng(0).standard_normal(len(t)) * (1 + np.sin(t)) + 0.3 * np.sin(
        2 * np.pi * 100 * t
    ) * (t > seconds / 3)
    wave[round(0.6 * len(t)) : round(0.8 * len(t))] *= 0.01
    return wave.astype(np.float32)


def test_coefficients_at_48_khz_are_the_standards() -> None:
    """Tables 1 and 2 of ITU-R BS.1770."""
    shelf, high_pass = k_weighting(48_000)
    np.testing.assert_allclose(shelf[0], [1.53512485958697, -2.69169618940638, 1.19839281085285], atol=1e-12)
    np.testing.assert_allclose(shelf[1], [1, -1.69065929318241, 0.73248077421585], atol=1e-12)
    np.testing.assert_allclose(high_pass[0], [1, -2, 1], atol=1e-12)
    np.testing.assert_allclose(high_pass[1], [1, -1.99004745483398, 0.99007225036621], atol=1e-12)


@pytest.mark.parametrize(("level_db", "channels", "lufs"), [(0, 1, -3.01), (-20, 1, -23.01), (-20, 2, -20.0)])
def test_a_sine_has_the_loudness_that_the_standard_gives_it(
    level_db: float, channels: int, lufs: float
) -> None:
    sine = 10 ** (level_db / 20) * np.sin(2 * np.pi * 997 * np.arange(2 * RATE) / RATE)
    found = integrated_loudness([sine.astype(np.float32)] * channels, RATE)
    assert found == pytest.approx(lufs, abs=0.01)


def test_quiet_parts_do_not_count() -> None:
    """Neither what lies below -70 LUFS nor what lies 10 LU below the rest."""
    sine = 0.1 * np.sin(2 * np.pi * 997 * np.arange(4 * RATE) / RATE).astype(np.float32)
    alone = integrated_loudness([sine], RATE)
    edge = 10 * np.log10((37 + 0.75 + 0.5 + 0.25) / 40)  # three blocks lie across the edge
    for level in (0.0, 1e-3, 0.1):
        found = integrated_loudness([np.concatenate([sine, level * sine, level * sine])], RATE)
        assert found == pytest.approx(alone + edge, abs=0.01)
    halved = integrated_loudness([np.concatenate([sine, 0.5 * sine])], RATE)
    assert halved == pytest.approx(alone + 10 * np.log10((1 + 0.25) / 2), abs=0.01)


@pytest.mark.parametrize("wave", [np.zeros(RATE), np.ones(RATE // 3), np.full(RATE, 1e-6), np.empty(0)])
def test_silence_and_less_than_a_block_have_no_loudness(wave: np.ndarray) -> None:
    assert integrated_loudness([wave.astype(np.float32)], RATE) is None


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_loudness_equals_pyloudnorm(rate: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    meter = pyloudnorm.Meter(rate, filter_class="DeMan")  # the standard's filters at any rate
    wave = music(rate=rate)
    assert integrated_loudness([wave], rate) == pytest.approx(
        meter.integrated_loudness(wave.astype(float)), abs=1e-3
    )


def test_loudness_and_true_peak_equal_ffmpegs_ebur128(tmp_path: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("the second opinion needs ffmpeg")
    wave = music()
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    command = [
        program,
        "-nostats",
        "-i",
        str(tmp_path / "a.wav"),
        "-af",
        "ebur128=peak=true",
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    summary = said[said.index("Summary:") :]
    lufs, peak = (float(re.findall(rf"{name}: +(-?[0-9.]+)", summary)[0]) for name in ("I", "Peak"))
    assert integrated_loudness([wave], RATE) == pytest.approx(lufs, abs=0.1)
    assert 20 * np.log10(true_peak_level(wave).max()) == pytest.approx(peak, abs=0.2)


def test_a_true_peak_lies_between_the_samples() -> None:
    """A sine of a quarter of the rate whose samples all lie 3 dB below its peaks."""
    sine = np.sin(2 * np.pi * RATE / 4 * np.arange(RATE) / RATE + np.pi / 4).astype(np.float32)
    assert np.abs(sine).max() == pytest.approx(2**-0.5, abs=1e-4)
    assert true_peak_level(sine)[100:-100].max() == pytest.approx(1.0, abs=0.01)


def test_a_true_peak_is_never_below_the_samples_and_blocks_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wave = music(0.2)
    level = true_peak_level(wave)
    assert (level >= np.abs(wave)).all()
    assert true_peak_level(np.empty(0, np.float32)).shape == (0,)
    whole = integrated_loudness([music(2)], RATE)
    monkeypatch.setattr(loudness, "BLOCK_SAMPLES", 1000)
    np.testing.assert_allclose(true_peak_level(wave), level, rtol=0, atol=1e-7)
    assert integrated_loudness([music(2)], RATE) == pytest.approx(whole, abs=1e-9)
