"""Rendering and mixing with a codec of which every sample is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeCodec

from yuegguf.audio import dsp
from yuegguf.errors import CodecError, Interrupted, RequestError
from yuegguf.progress import Event
from yuegguf.stages import render as stage
from yuegguf.stages.render import MixOptions, Stems, master, render


def codes(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 1024, (2, 8, frames)).astype(np.int16)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 7, 11, 30, 61, 200])
@pytest.mark.parametrize("window", [1, 7, 50, 500])
def test_windows_equal_the_whole_song(frames: int, window: int) -> None:
    codec, song = FakeCodec(), codes(frames)
    stems = render(song, codec, window=window)
    assert (stems.codec.shape, stems.upsampled.shape) == ((2, 320 * frames), (2, 882 * frames))
    assert stems.codec.dtype == stems.upsampled.dtype == np.float32
    assert codec.longest <= window + 2 * stage.UPSAMPLER_CONTEXT
    for row, track in enumerate(stage.TRACKS):
        np.testing.assert_allclose(stems.codec[row], codec.decode(song[row]), rtol=0, atol=1e-6)
        np.testing.assert_allclose(stems.upsampled[row], codec.upsample(song[row], track), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("context", "name"), [(9, "CODEC_CONTEXT"), (28, "UPSAMPLER_CONTEXT")])
def test_the_law_above_would_notice_too_little_context(
    monkeypatch: pytest.MonkeyPatch, context: int, name: str
) -> None:
    whole = render(codes(100), FakeCodec())
    monkeypatch.setattr(stage, name, context)
    stems = render(codes(100), FakeCodec(), window=40)
    worst = max(np.abs(stems.codec - whole.codec).max(), np.abs(stems.upsampled - whole.upsampled).max())
    assert worst > 1e-3


def test_one_event_a_window_and_a_callback_that_stops() -> None:
    events: list[Event] = []
    render(codes(25), FakeCodec(), events.append, window=10)
    assert [(event.phase, event.done, event.total) for event in events] == [
        ("master", 10, 25),
        ("master", 20, 25),
        ("master", 25, 25),
    ]

    def stop(event: Event) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        render(codes(25), FakeCodec(), stop)


@pytest.mark.parametrize("mode", ["hybrid", "upstream", "vocos", "codec", "split"])
@pytest.mark.parametrize("frames", [0, 1, 7])
def test_very_short_songs(mode: stage.MixMode, frames: int) -> None:
    out = master(render(codes(frames), FakeCodec()), MixOptions(mode))
    for wave in (out.mix, out.vocals, out.instrumental):
        assert (wave.shape, wave.dtype) == ((882 * frames,), np.float32)


@pytest.mark.parametrize("shape", [(2, 8), (1, 8, 5), (2, 7, 5), (8, 5)])
def test_codes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="cannot be rendered"):
        render(np.zeros(shape, np.int16), FakeCodec())


def test_a_codec_of_the_wrong_length_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCodec, "decode", lambda self, codes: np.zeros(5, np.float32))
    with pytest.raises(CodecError, match="30 frames"):
        render(codes(30), FakeCodec())


def test_the_real_codec_in_windows_equals_the_official_waves(
    golden: Callable[[str], Path], reference_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    from yuegguf_onnx_codec.export import export_codec

    from yuegguf.codec.onnx import OrtCodec

    waves, songs = np.load(golden("codec_micro.npz")), np.load(golden("vocos_micro.npz"))
    upsamplers = reference_checkpoint("vocos_micro")
    files = [next(reference_checkpoint("xcodec_micro").rglob("ckpt_*.pth"))]
    files += [next(upsamplers.rglob(f"decoder_{step}.pth")) for step in (131000, 151000)]
    export_codec(*files, tmp_path)
    both = np.stack([waves["dec137_codes"]] * 2)
    out = render(both, OrtCodec.open(tmp_path), window=40)
    for row, name in enumerate(("vocal137", "inst137")):
        np.testing.assert_allclose(out.codec[row], waves["dec137_wave16k"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(out.upsampled[row], songs[name], rtol=0, atol=2e-5)


# --- mixing ---


def stems(level: float = 0.2, frames: int = 40) -> Stems:
    random = np.random.default_rng(3)
    codec = random.standard_normal((2, 320 * frames)) * level
    song = random.standard_normal((2, 882 * frames)) * level
    return Stems(codec.astype(np.float32), song.astype(np.float32))


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
    given = stems(level)
    out = master(given, MixOptions("upstream", rescale=rescale))
    np.testing.assert_allclose(out.mix, upstream_mix(given, rescale), rtol=0, atol=2e-6)
    expected = dsp.rescale(given.upsampled[0]) if rescale else np.clip(given.upsampled[0], -0.99, 0.99)
    np.testing.assert_allclose(out.vocals, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["hybrid", "vocos", "codec", "split"])
@pytest.mark.parametrize("rescale", [False, True])
def test_nothing_leaves_above_the_ceiling(mode: stage.MixMode, rescale: bool) -> None:
    out = master(stems(2.0), MixOptions(mode, rescale=rescale))
    for wave in (out.mix, out.vocals, out.instrumental):
        assert 0.9 < np.abs(wave).max() <= 0.99 + 1e-6


def test_every_mode_takes_its_own_sources() -> None:
    given = stems(0.1)
    vocal, backing = given.upsampled
    codec_vocal, codec_backing = (dsp.resample(wave, 16_000, 44_100) for wave in given.codec)
    expected = {
        "vocos": (vocal + backing, vocal, backing),
        "codec": (codec_vocal + codec_backing, codec_vocal, codec_backing),
        "split": (vocal + codec_backing, vocal, codec_backing),
        "hybrid": (
            dsp.mix_hybrid(given.codec.sum(axis=0), vocal + backing, 16_000, 44_100),
            vocal,
            backing,
        ),
    }
    for mode, waves in expected.items():
        out = master(given, MixOptions(mode))  # type: ignore[arg-type]
        for got, wanted in zip((out.mix, out.vocals, out.instrumental), waves, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["hybrid", "upstream", "vocos", "codec", "split"])
def test_gains_change_the_balance_and_not_the_stems(mode: stage.MixMode) -> None:
    given = stems(0.1)
    plain = master(given, MixOptions(mode))
    out = master(given, MixOptions(mode, vocal_gain_db=-20.0, instrumental_gain_db=6.0))
    np.testing.assert_array_equal(out.vocals, plain.vocals)
    np.testing.assert_array_equal(out.instrumental, plain.instrumental)
    gains = np.array([[0.1], [10 ** (6 / 20)]], np.float32)
    by_hand = master(Stems(given.codec * gains, given.upsampled * gains), MixOptions(mode))
    np.testing.assert_allclose(out.mix, by_hand.mix, rtol=0, atol=1e-6)


def test_mastering_leaves_the_stems_alone() -> None:
    given = stems(2.0)
    before = given.codec.copy(), given.upsampled.copy()
    for mode in ("hybrid", "upstream", "vocos", "codec", "split"):
        master(given, MixOptions(mode, 3.0, 3.0))  # type: ignore[arg-type]
    np.testing.assert_array_equal(given.codec, before[0])
    np.testing.assert_array_equal(given.upsampled, before[1])


def test_unknown_mixes_and_gains_are_refused() -> None:
    with pytest.raises(RequestError, match="louder"):
        MixOptions("louder")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="gain"):
        MixOptions(vocal_gain_db=float("nan"))
