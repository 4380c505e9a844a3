"""Mixes of known stems: what sums to what, how loud, and how it begins and ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import FakeCodec
from helpers import limited

from yuegguf.audio import dsp, limiter
from yuegguf.audio.loudness import integrated_loudness, true_peak_level
from yuegguf.request.song_request import MixMode, Output
from yuegguf.stages import mastering
from yuegguf.stages.mastering import RecordedTrack, master
from yuegguf.stages.render import Stems, render

MODES = ["hybrid", "vocos", "codec", "split"]
RATE = 44_100
STEP = 1 / 32768
BARE = Output(loudness=None, fade=0.0)
"""A mix without loudness and fade."""
RAW = replace(BARE, stem_mode="raw")
"""What songs were written with before their stems were joined."""


def stems(level: float = 0.2, frames: int = 40, seed: int = 3) -> Stems:
    random = np.random.default_rng(seed)
    codec = random.standard_normal((2, 320 * frames)) * level
    song = random.standard_normal((2, 882 * frames)) * level
    return Stems(codec.astype(np.float32), song.astype(np.float32))


def music(level: float = 0.05, seconds: float = 2.0) -> Stems:
    """Stems whose loudness is steady and whose peaks are some 12 dB above it."""
    return stems(level, round(50 * seconds))


def waves(out: mastering.Master) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return out.mix, out.vocals, out.instrumental


# --- upstream ---


def upstream_mix(given: Stems, rescale: bool) -> np.ndarray:
    """The tail of infer.py from its description, with scipy, in float64."""
    from scipy import signal  # two seconds

    codec = np.clip(given.codec, -0.99, 0.99).sum(axis=0)
    song = given.upsampled.sum(axis=0)
    song = song * min(0.99 / np.abs(song).max(), 1) if rescale else np.clip(song, -0.99, 0.99)
    a = dsp.resample(codec, 16_000, 44_100).astype(np.float64)
    low, high = (dsp.biquad_coefficients(kind, 5500.0, 44_100) for kind in ("lowpass", "highpass"))
    low_a, low_b, high_b = (
        np.clip(signal.lfilter(*pair, x), -1, 1) for pair, x in ((low, a), (low, song), (high, song))
    )
    return np.sqrt(np.mean(low_b**2) / np.mean(low_a**2)) * low_a + high_b


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.2, 0.8])
@pytest.mark.parametrize("rescale", [False, True])
def test_upstream_mode_is_the_official_result(level: float, rescale: bool) -> None:
    """Whatever else is asked for: no loudness, no fade, no joined stems."""
    given = stems(level)
    out = master(given, Output(mix="upstream", rescale=rescale))
    np.testing.assert_allclose(out.mix, upstream_mix(given, rescale), rtol=0, atol=2e-6)
    expected = limiter.rescale(given.upsampled[0]) if rescale else np.clip(given.upsampled[0], -0.99, 0.99)
    np.testing.assert_allclose(out.vocals, expected, rtol=0, atol=1e-6)
    bare = master(given, replace(RAW, mix="upstream", rescale=rescale))
    for found, same in zip(waves(out), waves(bare), strict=True):
        np.testing.assert_array_equal(found, same)


# --- stems that are the mix ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gains", [(0.0, 0.0), (-6.0, 3.0)])
def test_the_mix_minus_its_stems_is_nothing(mode: MixMode, gains: tuple[float, float]) -> None:
    """Below, at and above full scale, with loudness and fades: one gain curve for all three."""
    for level, options in ((0.05, Output()), (0.05, BARE), (2.0, Output()), (2.0, BARE)):
        output = replace(options, mix=mode, vocal_gain=gains[0], inst_gain=gains[1])
        out = master(stems(level), output)
        left = out.mix.astype(np.float64) - out.vocals - out.instrumental
        assert np.abs(left).max() < 3e-7
        assert np.abs(out.mix).max() > 0.1


def test_raw_stems_do_not_null_where_the_codec_and_the_upsampler_disagree() -> None:
    out = master(stems(), RAW)
    assert np.abs(out.mix - out.vocals - out.instrumental).max() > 0.1


def test_the_mix_is_the_same_whether_its_stems_are_joined_or_raw() -> None:
    for mode in MODES:
        joined, raw = (master(stems(0.1), replace(each, mix=mode)) for each in (BARE, RAW))  # type: ignore[arg-type]
        np.testing.assert_allclose(joined.mix, raw.mix, rtol=0, atol=1e-6)


def test_stems_that_cancel_are_held_below_the_ceiling_too() -> None:
    """Two loud stems of opposite sign make a quiet mix; the three still share one gain."""
    given = stems(2.0)
    against = Stems(given.codec * 0, np.stack([given.upsampled[0], -0.99 * given.upsampled[0]]))
    for options in (BARE, Output()):
        out = master(against, replace(options, mix="vocos"))
        assert all(np.abs(wave).max() <= 0.99 for wave in waves(out))
        np.testing.assert_allclose(out.mix, out.vocals + out.instrumental, rtol=0, atol=3e-7)


@pytest.mark.parametrize("track", [0, 1])
@pytest.mark.parametrize("mode", [*MODES, "upstream"])
def test_with_a_silent_track_the_mix_is_its_only_stem(mode: MixMode, track: int) -> None:
    given = music()
    given.codec[track], given.upsampled[track] = 0, 0
    out = master(given, Output(mix=mode), RecordedTrack(track, None))
    only, silent = (out.instrumental, out.vocals) if track == 0 else (out.vocals, out.instrumental)
    assert not silent.any()
    if mode != "upstream":
        np.testing.assert_array_equal(out.mix, only)


def test_a_recorded_track_is_in_the_mix_and_is_its_stem() -> None:
    given = stems(0.05)
    given.codec[0], given.upsampled[0] = 0, 0
    recorded = (0.1 * np.random.default_rng(9).standard_normal(882 * 40)).astype(np.float32)
    out = master(given, BARE, RecordedTrack(0, recorded))
    np.testing.assert_array_equal(out.vocals, recorded)
    np.testing.assert_array_equal(out.mix, recorded + out.instrumental)
    out = master(given, replace(BARE, vocal_gain=-6.0), RecordedTrack(0, recorded))
    np.testing.assert_allclose(out.vocals, recorded * 10 ** (-6 / 20), rtol=1e-6)


def test_every_mode_takes_its_own_sources() -> None:
    given = stems(0.1)
    vocal, backing = given.upsampled
    codec_vocal, codec_backing = (dsp.resample(wave, 16_000, 44_100) for wave in given.codec)
    expected = {
        "vocos": (vocal + backing, vocal, backing),
        "codec": (codec_vocal + codec_backing, codec_vocal, codec_backing),
        "split": (vocal + codec_backing, vocal, codec_backing),
        "hybrid": (
            dsp.cross_over([codec_vocal + codec_backing], [vocal + backing], RATE)[0],
            vocal,
            backing,
        ),
    }
    for mode, wanted in expected.items():
        found = waves(master(given, replace(RAW, mix=mode)))  # type: ignore[arg-type]
        for got, wave in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, wave, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", [*MODES, "upstream"])
def test_gains_change_the_balance_and_not_raw_stems(mode: MixMode) -> None:
    given, raw = stems(0.1), replace(RAW, mix=mode)
    plain = master(given, raw)
    out = master(given, replace(raw, vocal_gain=-20.0, inst_gain=6.0))
    np.testing.assert_array_equal(out.vocals, plain.vocals)
    np.testing.assert_array_equal(out.instrumental, plain.instrumental)
    gains = np.array([[0.1], [10 ** (6 / 20)]], np.float32)
    by_hand = master(Stems(given.codec * gains, given.upsampled * gains), raw)
    np.testing.assert_allclose(out.mix, by_hand.mix, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [Output(), BARE, RAW])
def test_mastering_leaves_the_stems_alone(options: Output) -> None:
    given = stems(2.0)
    before = given.codec.copy(), given.upsampled.copy()
    recording = RecordedTrack(1, given.upsampled[1] * 2)
    for mode in (*MODES, "upstream"):
        for recorded in (None, recording):
            master(given, replace(options, mix=mode, vocal_gain=3.0), recorded)  # type: ignore[arg-type]
    np.testing.assert_array_equal(given.codec, before[0])
    np.testing.assert_array_equal(given.upsampled, before[1])
    np.testing.assert_array_equal(recording.wave, before[1][1] * 2)


# --- level ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rescale", [False, True])
def test_nothing_leaves_above_the_ceiling(mode: MixMode, rescale: bool) -> None:
    for options in (BARE, RAW):
        out = master(stems(2.0), replace(options, mix=mode, rescale=rescale))
        assert max(np.abs(wave).max() for wave in waves(out)) > 0.9
        assert all(np.abs(wave).max() <= 0.99 + 1e-6 for wave in waves(out))


@pytest.mark.parametrize("level", [0.01, 0.1, 2.0])
def test_rescaling_reaches_the_ceiling_from_either_side(level: float) -> None:
    out = master(stems(level), Output(rescale=True))
    assert max(np.abs(wave).max() for wave in waves(out)) == pytest.approx(0.99, abs=1e-5)
    np.testing.assert_allclose(out.mix, out.vocals + out.instrumental, rtol=0, atol=3e-7)
    for wave in waves(master(stems(level), Output(rescale=True, stem_mode="raw"))):
        assert np.abs(wave).max() == pytest.approx(0.99, abs=1e-5)
    silence = master(Stems(*(0 * wave for wave in (stems().codec, stems().upsampled))), Output(rescale=True))
    assert not silence.mix.any()


@pytest.mark.parametrize("target", [-23.0, -16.0, -14.0])
@pytest.mark.parametrize("level", [0.003, 0.05, 0.5])
@pytest.mark.parametrize("stem_mode", ["joined", "raw"])
def test_a_mix_has_the_loudness_asked_for_under_its_true_peak(
    target: float, level: float, stem_mode: str
) -> None:
    out = master(music(level), Output(loudness=target, stem_mode=stem_mode))  # type: ignore[arg-type]
    assert out.notice == ""
    assert integrated_loudness([out.mix], RATE) == pytest.approx(target, abs=0.1)
    assert true_peak_level(out.mix).max() <= 10 ** (-1 / 20) + 1e-6


def test_the_limiter_takes_at_most_3_db_and_the_rest_is_said() -> None:
    """Clicks every half second, 20 dB above a soft noise: their peaks decide how loud it may be."""
    given = music(0.02)
    given.upsampled[0, 5_000::22_050] = 1.5
    out = master(given, Output(mix="vocos"))
    loudness = integrated_loudness([out.mix], RATE)
    assert loudness is not None
    assert loudness < -20
    assert out.notice == (
        f"the mix has {loudness:.1f} LUFS instead of -14: more would take more than 3 dB off its peaks"
    )
    bare = master(given, replace(BARE, mix="vocos", rescale=True))
    away = slice(15_000, 20_000)  # from any click
    gain = np.linalg.norm(out.mix[away]) / np.linalg.norm(bare.mix[away])
    at_peak = out.mix[5_000] / bare.mix[5_000]
    assert 20 * np.log10(at_peak / gain) == pytest.approx(-3, abs=0.1)
    assert true_peak_level(out.mix).max() == pytest.approx(10 ** (-1 / 20), rel=1e-3)


def test_silence_and_moments_are_left_at_their_level() -> None:
    for given in (stems(0.0), stems(0.1, frames=5)):
        out = master(given, Output(fade=0.0))
        np.testing.assert_array_equal(out.mix, master(given, BARE).mix)
        assert out.notice == ""


@pytest.mark.parametrize("mode", [*MODES, "upstream"])
@pytest.mark.parametrize("frames", [0, 1, 7])
def test_very_short_songs(mode: MixMode, frames: int) -> None:
    codes = np.random.default_rng(frames).integers(0, 1024, (2, 8, frames)).astype(np.int16)
    for options in (Output(), RAW, Output(rescale=True)):
        for wave in waves(master(render(codes, FakeCodec()), replace(options, mix=mode))):
            assert (wave.shape, wave.dtype) == ((882 * frames,), np.float32)


# --- stereo ---


@pytest.mark.parametrize("stem_mode", ["joined", "raw"])
def test_the_mean_of_both_channels_is_the_mono_song(stem_mode: str) -> None:
    options = replace(BARE, stem_mode=stem_mode)  # type: ignore[arg-type]
    mono, wide = (master(stems(0.1), replace(options, stereo=stereo)) for stereo in (False, True))
    for wave, channels in zip(waves(mono), waves(wide), strict=True):
        assert channels.shape == (len(wave), 2)
        np.testing.assert_allclose(channels.mean(axis=1), wave, rtol=0, atol=1e-6)
    assert (wide.vocals[:, 0] == wide.vocals[:, 1]).all()


def test_each_channel_of_the_stems_sums_to_that_of_the_mix() -> None:
    for level in (0.05, 2.0):
        out = master(stems(level), Output(stereo=True))
        np.testing.assert_allclose(out.mix, out.vocals + out.instrumental, rtol=0, atol=3e-7)
        assert max(true_peak_level(wave).max() for wave in out.mix.T) <= 10 ** (-1 / 20) + 1e-6
        assert integrated_loudness(list(out.mix.T), RATE) == pytest.approx(-14, abs=0.1)


def test_the_backing_is_wide_above_250_hz_and_the_vocal_is_not() -> None:
    given = music()
    given.upsampled[0] = 0
    wide = master(given, replace(BARE, mix="vocos", stereo=True)).instrumental
    left, right = wide.T
    assert np.corrcoef(left, right)[0, 1] < 0.75
    spectra = [
        np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
        for wave in ((left - right) / 2, (left + right) / 2)
    ]
    hertz = np.fft.rfftfreq(len(left), 1 / RATE)
    side, middle = (spectrum[(hertz > 20) & (hertz < 230)].sum() for spectrum in spectra)
    assert side < 1e-5 * middle
    side, middle = (spectrum[(hertz > 600) & (hertz < 16_000)].sum() for spectrum in spectra)
    assert 10 * np.log10(side / middle) == pytest.approx(-6.2, abs=0.5)


def test_upstreams_mix_stays_mono() -> None:
    assert master(stems(), Output(mix="upstream", stereo=True)).mix.ndim == 1


# --- fades ---


@pytest.mark.parametrize("stem_mode", ["joined", "raw"])
def test_a_song_fades_in_and_out_and_nothing_else_changes(stem_mode: str) -> None:
    options = replace(BARE, stem_mode=stem_mode)  # type: ignore[arg-type]
    plain, out = (master(stems(0.1), replace(options, fade=fade)) for fade in (0.0, 10.0))
    for wave, without in zip(waves(out), waves(plain), strict=True):
        gain = wave.astype(np.float64) / without
        assert abs(gain[0]) < 1e-4
        assert abs(gain[-1]) < 1e-4
        np.testing.assert_array_equal(wave[441:-441], without[441:-441])
        assert (np.diff(gain[:441]) > 0).all()
        np.testing.assert_allclose(gain[::-1], gain, atol=1e-6)


def test_a_fade_is_at_most_half_of_a_song() -> None:
    out = master(stems(0.1, frames=1), replace(BARE, fade=1000.0))
    assert np.abs(out.mix[440:442]).max() > 0
    assert abs(out.mix[0]) < 1e-5


# --- older songs ---


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", [0.1, 2.0])
def test_a_song_of_before_is_mixed_as_it_was(mode: MixMode, level: float) -> None:
    """Sums of both tracks, each wave limited by itself, to the last bit."""
    given = stems(level)
    songs = {
        "vocos": given.upsampled,
        "codec": [dsp.resample(wave, 16_000, RATE) for wave in given.codec],
        "split": [given.upsampled[0], dsp.resample(given.codec[1], 16_000, RATE)],
        "hybrid": given.upsampled,
    }[mode]
    total = songs[0] + songs[1]
    codec = dsp.resample(given.codec[0] + given.codec[1], 16_000, RATE)
    if mode == "hybrid":
        total = dsp.cross_over([codec], [total], RATE)[0]
    if mode == "codec":
        total = codec
    out = master(given, replace(RAW, mix=mode))
    for found, wave in zip(waves(out), (total, *songs), strict=True):
        np.testing.assert_array_equal(found, limited(wave, RATE))
