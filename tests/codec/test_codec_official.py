"""The codec on ONNX Runtime against the official one: its codes and its samples."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from yuegguf_onnx_codec.export import export_codec

from yuegguf.codec.onnx import OrtCodec

Golden = Callable[[str], Path]
Checkpoint = Callable[[str], Path]


def export(checkpoint: Checkpoint, suffix: str, out: Path) -> Path:
    vocos = checkpoint(f"vocos{suffix}")
    codec = find_files(checkpoint(f"xcodec{suffix}"), vocos)
    export_codec(*codec, out)
    return out


def find_files(xcodec: Path, vocos: Path) -> tuple[Path, Path, Path]:
    return xcodec / "ckpt_00360000.pth", vocos / "decoder_131000.pth", vocos / "decoder_151000.pth"


@pytest.fixture(scope="module", params=["micro", "full"])
def official(
    request: pytest.FixtureRequest,
    golden: Golden,
    reference_checkpoint: Checkpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[OrtCodec, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """The exported codec with the official codes, waves and audio that belong to it."""
    kind = request.param
    data = [dict(np.load(golden(f"{name}.npz"))) for name in (f"codec_{kind}", f"vocos_{kind}", "audio")]
    suffix = "" if kind == "full" else "_micro"
    folder = export(reference_checkpoint, suffix, tmp_path_factory.mktemp("codec") / kind)
    with closing(OrtCodec.open(folder)) as codec:
        yield codec, *data
    shutil.rmtree(folder)  # 0.85 GB at full width


def floats(pcm: np.ndarray) -> np.ndarray:
    return pcm.astype(np.float32) / 32768


def test_encode_equals_the_official_codec(official: Any) -> None:
    codec, wanted, _, audio = official
    waves = {name: floats(audio[name]) for name in ("vocal_16k", "inst_16k", "mix_16k")}
    waves["mix_44k_stereo"] = wanted["mix_44k_mono16k"]
    long = np.tile(waves["mix_16k"], 2)
    cases = [name for name in wanted if name.startswith("codes") and not name.endswith("_gap")]
    lengths = {name: long[: int(name.split("_len")[1])] for name in cases if "_len" in name}
    assert len(cases) >= 20
    for name in cases:
        wave = lengths.get(name, waves.get(name.partition("_")[2]))
        codes = codec.encode(wave)
        assert codes.dtype == np.int16
        assert codes.shape == (8, (len(wave) + 240) // 320)
        np.testing.assert_array_equal(codes[: len(wanted[name])], wanted[name], err_msg=name)


def test_decode_equals_the_official_codec(official: Any) -> None:
    codec, wanted, _, _ = official
    for name in (name for name in wanted if name.endswith("_wave16k")):
        codes = wanted[name.replace("wave16k", "codes")]
        wave = codec.decode(codes)
        assert wave.dtype == np.float32
        assert wave.shape == (320 * codes.shape[1],)
        np.testing.assert_allclose(wave, wanted[name], rtol=0, atol=2e-5, err_msg=name)


def test_upsample_equals_the_official_vocoder(official: Any) -> None:
    codec, wanted, waves, _ = official
    for name in (name for name in waves if name[-1].isdigit()):
        track = "vocal" if name.startswith("vocal") else "instrumental"
        codes = wanted[f"dec{name.removeprefix('vocal').removeprefix('inst')}_codes"]
        wave = codec.upsample(codes, track)
        assert wave.dtype == np.float32
        assert wave.shape == (882 * codes.shape[1],)
        np.testing.assert_allclose(wave, waves[name], rtol=0, atol=2e-5, err_msg=name)


def test_windows_with_context_equal_the_whole(official: Any) -> None:
    """±11 frames of context for the codec and ±30 for the upsampler give the whole song's samples."""
    codec, wanted, _, _ = official
    codes = wanted["dec137_codes"] if "dec137_codes" in wanted else wanted["dec700_codes"][:, :137]
    whole, upsampled = codec.decode(codes), codec.upsample(codes, "vocal")
    np.testing.assert_allclose(
        codec.decode(codes[:, 49:102])[11 * 320 : 42 * 320], whole[60 * 320 : 91 * 320], rtol=0, atol=2e-6
    )
    np.testing.assert_allclose(
        codec.upsample(codes[:, 30:121], "vocal")[30 * 882 : 61 * 882],
        upsampled[60 * 882 : 91 * 882],
        rtol=0,
        atol=2e-6,
    )
