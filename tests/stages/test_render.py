"""Rendering with a codec of which every sample is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeCodec

from yuegguf.errors import CodecError, Interrupted, RequestError
from yuegguf.progress import Event
from yuegguf.stages import render as stage
from yuegguf.stages.render import render, render_track


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


@pytest.mark.parametrize("window", [7, 500])
def test_a_track_alone_is_that_track_of_the_song(window: int) -> None:
    codec, song = FakeCodec(), codes(40)
    stems = render(song, codec)
    for row, track in enumerate(stage.TRACKS):
        alone = render_track(song[row], track, codec, window=window)
        np.testing.assert_allclose(alone, stems.upsampled[row], rtol=0, atol=1e-6)
        alone = render_track(song[row], None, codec, window=window)
        np.testing.assert_allclose(alone, stems.codec[row], rtol=0, atol=1e-6)


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
