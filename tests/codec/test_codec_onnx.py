"""The codec on ONNX Runtime with weights of its own: shapes, bits, memory, and wrong files and arrays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from yuegguf_onnx_codec.export import METADATA_KEY, export_codec, find_checkpoints

from nano.codec_weights import NANO, write
from yuegguf.codec.header import GRAPH_ROLES
from yuegguf.codec.onnx import OrtCodec, build_info, inverse_stft
from yuegguf.errors import CodecError, DamagedFile, ModelNotFound, RequestError


@pytest.mark.parametrize("chosen", [None, "", "1"])
def test_onnx_runtime_does_not_report_to_its_makers(tmp_path: Path, chosen: str | None) -> None:
    """It would leave an identifier and its events in the home folder, and send them."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    if chosen is not None:
        environment["ORT_DISABLE_TELEMETRY"] = chosen
    program = "from yuegguf.codec.onnx import build_info; build_info()"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert [*tmp_path.rglob("*")] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nano")
    write(root / "checkpoints")
    export_codec(*find_checkpoints(root / "checkpoints"), root / "codec")
    return root / "codec"


@pytest.fixture(scope="module")
def codec(folder: Path) -> Iterator[OrtCodec]:
    with closing(OrtCodec.open(folder)) as opened:
        yield opened


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "codec"))


def song(samples: int) -> np.ndarray:
    t = np.arange(samples) / 16000
    return (0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t) * np.sin(7 * t)).astype(np.float32)


def some_codes(frames: int, books: int = 8) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 1024, (books, frames)).astype(np.int16)


def test_the_miniature_sounds(codec: OrtCodec) -> None:
    codes = codec.encode(song(48000))
    assert min(len(set(row)) for row in codes.tolist()) > 30
    for wave in (codec.decode(codes), codec.upsample(codes, "vocal"), codec.upsample(codes, "instrumental")):
        assert 0.02 < wave.std() < 0.3
        assert abs(wave).max() < 0.99
        assert abs(wave.mean()) < 0.01
    assert not np.array_equal(codec.upsample(codes, "vocal"), codec.upsample(codes, "instrumental"))


@pytest.mark.parametrize("samples", [312, 319, 320, 399, 400, 631, 632, 719, 720, 1000, 16079, 16080, 16312])
def test_frames_of_every_length(codec: OrtCodec, samples: int) -> None:
    assert codec.encode(song(samples)).shape == (8, (samples + 240) // 320)


@pytest.mark.parametrize("frames", [0, 1, 2, 5, 60])
@pytest.mark.parametrize("books", [1, 3, 8])
def test_samples_of_every_length(codec: OrtCodec, frames: int, books: int) -> None:
    codes = some_codes(frames, books)
    assert codec.decode(codes).shape == (320 * frames,)
    assert codec.upsample(codes, "vocal").shape == (882 * frames,)
    assert codec.upsample(codes, "instrumental").dtype == np.float32


def test_fewer_codebooks_are_the_first_ones(codec: OrtCodec) -> None:
    codes = some_codes(20)
    assert not np.array_equal(codec.decode(codes[:1]), codec.decode(codes[1:2]))
    np.testing.assert_array_equal(codec.decode(codes[:3]), codec.decode(codes[:3].astype(np.int64)))


def test_the_same_call_gives_the_same_bits(codec: OrtCodec, folder: Path) -> None:
    codes, wave = some_codes(90), song(20000)
    with closing(OrtCodec.open(folder)) as other:
        for _ in range(3):
            np.testing.assert_array_equal(other.decode(codes), codec.decode(codes))
            np.testing.assert_array_equal(other.upsample(codes, "vocal"), codec.upsample(codes, "vocal"))
            np.testing.assert_array_equal(other.encode(wave), codec.encode(wave))


def test_reading_only_arrays_and_views(codec: OrtCodec) -> None:
    wave = song(8000)
    wave.setflags(write=False)
    reversed_twice = wave[::-1].copy()[::-1]
    np.testing.assert_array_equal(codec.encode(wave), codec.encode(reversed_twice))
    np.testing.assert_array_equal(codec.encode(wave), codec.encode(wave.astype(np.float64)))
    codes = some_codes(12)
    np.testing.assert_array_equal(codec.decode(np.asfortranarray(codes)), codec.decode(codes))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.full((8, 3), 1024, np.int16), "expected 0 to 1023"),
        (np.full((8, 3), -1, np.int16), "expected 0 to 1023"),
        (np.zeros((9, 3), np.int16), "9 codebooks"),
        (np.zeros((0, 3), np.int16), "0 codebooks"),
        (np.zeros(3, np.int16), "integers"),
        (np.zeros((8, 3), np.float32), "integers"),
    ],
)
def test_codes_that_cannot_be(codec: OrtCodec, codes: np.ndarray, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        codec.decode(codes)
    with pytest.raises(CodecError, match=message):
        codec.upsample(codes, "vocal")


def test_audio_that_cannot_be_encoded(codec: OrtCodec) -> None:
    for samples in (0, 1, 79, 311):
        with pytest.raises(RequestError, match="too short"):
            codec.encode(song(samples))
    for bad in (np.nan, np.inf):
        wave = song(1000)
        wave[500] = bad
        with pytest.raises(RequestError, match="NaN or infinity"):
            codec.encode(wave)
    for wave in (np.zeros((2, 1000), np.float32), np.zeros(1000, np.int16)):
        with pytest.raises(CodecError, match="one-dimensional and of floats"):
            codec.encode(wave)


def test_a_closed_codec_says_so(folder: Path) -> None:
    codec = OrtCodec.open(folder, 1)
    codec.decode(some_codes(2))
    codec.close()
    codec.close()
    with pytest.raises(CodecError, match="closed"):
        codec.decode(some_codes(2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("role", ["decoder", "vocal_upsampler"])
def test_samples_that_are_not_numbers_are_an_error(copied: Path, role: str, value: float) -> None:
    model = onnx.load(copied / f"{role}.onnx")
    weights = [each for each in model.graph.initializer if len(each.dims) == 2]
    spoiled = onnx.numpy_helper.to_array(weights[-1]).copy()
    spoiled.flat[:] = value
    weights[-1].CopyFrom(onnx.numpy_helper.from_array(spoiled, weights[-1].name))
    onnx.save(model, copied / f"{role}.onnx")
    with closing(OrtCodec.open(copied)) as codec, pytest.raises(CodecError, match=f"the {role} computed NaN"):
        codec.decode(some_codes(5)) if role == "decoder" else codec.upsample(some_codes(5), "vocal")


def test_graphs_are_loaded_when_needed_and_released(copied: Path) -> None:
    with closing(OrtCodec.open(copied)) as codec:
        (copied / "encoder.onnx").write_bytes(b"")  # not read again unless it is used
        first = codec.decode(some_codes(4))
        codec.release("decoder")
        codec.release("decoder")
        np.testing.assert_array_equal(codec.decode(some_codes(4)), first)
        with pytest.raises(DamagedFile, match=r"encoder\.onnx cannot be loaded"):
            codec.encode(song(1000))


@pytest.mark.parametrize("role", GRAPH_ROLES)
def test_a_missing_file_is_named(copied: Path, role: str) -> None:
    (copied / f"{role}.onnx").unlink()
    with pytest.raises(ModelNotFound, match=rf"{role}\.onnx is not there; .*yuegguf export-codec"):
        OrtCodec.open(copied)
    need = [other for other in GRAPH_ROLES if other != role]
    with closing(OrtCodec.open(copied, None, need)) as codec:
        uses: dict[str, Callable[[], np.ndarray]] = {
            "encoder": lambda: codec.encode(song(999)),
            "decoder": lambda: codec.decode(some_codes(2)),
            "vocal_upsampler": lambda: codec.upsample(some_codes(2), "vocal"),
            "instrumental_upsampler": lambda: codec.upsample(some_codes(2), "instrumental"),
        }
        with pytest.raises(CodecError, match=f"without its {role}"):
            uses.pop(role)()
        assert all(use().size for use in uses.values())


def test_a_truncated_file_is_damaged_at_every_offset(copied: Path) -> None:
    path = copied / "decoder.onnx"
    whole = path.read_bytes()
    sizes = [*range(0, 200), *range(0, len(whole), len(whole) // 100), *range(len(whole) - 400, len(whole))]
    for size in sizes:
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match=r"decoder\.onnx"):
            OrtCodec.open(copied)


def test_flipped_bytes_never_raise_anything_else(copied: Path) -> None:
    path = copied / "decoder.onnx"
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    for position in (*rng.integers(0, 2000, 60), *rng.integers(len(whole) - 600, len(whole), 60)):
        damaged = bytearray(whole)
        damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            with closing(OrtCodec.open(copied, 1)) as codec:
                codec.decode(some_codes(2))
        except (DamagedFile, CodecError):
            continue


@pytest.mark.parametrize("content", [b"", b"hello, world", bytes(1000), b"\xff" * 1000, b"PK\x03\x04" * 99])
def test_garbage_is_damaged(copied: Path, content: bytes) -> None:
    (copied / "encoder.onnx").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"encoder\.onnx"):
        OrtCodec.open(copied)


def rewrite_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    model = onnx.load(path)
    facts = json.loads(model.metadata_props[0].value)
    change(facts)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(facts)})
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "newer yuegguf"),
        ({"format": "1"}, "not a file of"),
        ({"role": "encoder"}, "holds the encoder, not the decoder"),
        ({"width": 64}, "different codecs: 1024 codes 64 wide against 1024 codes 32 wide"),
        ({"bins": 512}, "different codecs"),
        ({"fingerprint": "0" * 64}, "their codebooks differ"),
        ({"fingerprint": None}, "incomplete header"),
        ({"width": -1}, "incomplete header"),
        ({"bins": 1.5}, "incomplete header"),
        ({"hop": 512}, "another geometry"),
        ({"codebooks": 12}, "another geometry"),
    ],
)
def test_headers_that_do_not_fit(copied: Path, change: dict[str, Any], message: str) -> None:
    rewrite_header(copied / "decoder.onnx", lambda facts: facts.update(change))
    with pytest.raises(DamagedFile, match=message):
        OrtCodec.open(copied)


def test_an_onnx_file_of_somebody_else(copied: Path) -> None:
    model = onnx.load(copied / "decoder.onnx")
    del model.metadata_props[:]
    onnx.save(model, copied / "decoder.onnx")
    with pytest.raises(DamagedFile, match="not a file of `yuegguf export-codec`"):
        OrtCodec.open(copied)


def test_files_of_different_codecs_are_refused(copied: Path, tmp_path: Path) -> None:
    for name, spec in (("seed", replace(NANO, seed=1)), ("width", replace(NANO, acoustic=40))):
        write(tmp_path / name, spec)
        export_codec(*find_checkpoints(tmp_path / name), tmp_path / name / "codec")
        with closing(OrtCodec.open(tmp_path / name / "codec")) as other:
            assert other.decode(some_codes(2)).shape == (640,)
        shutil.copy(tmp_path / name / "codec" / "vocal_upsampler.onnx", copied)
        with pytest.raises(DamagedFile, match="of different codecs"):
            OrtCodec.open(copied)


def test_swapped_upsamplers_are_refused(copied: Path) -> None:
    (copied / "vocal_upsampler.onnx").write_bytes((copied / "instrumental_upsampler.onnx").read_bytes())
    with pytest.raises(DamagedFile, match="holds the instrumental_upsampler, not the vocal_upsampler"):
        OrtCodec.open(copied)


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from yuegguf.codec.onnx import OrtCodec

codec, rng = OrtCodec.open(Path(sys.argv[1]), 2), np.random.default_rng(0)

def resident_after(calls):
    for frames in rng.integers(2, 600, calls):
        codes = rng.integers(0, 1024, (8, frames))
        codec.upsample(codes, "vocal")
        codec.encode(codec.decode(codes))
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

print(-resident_after(25) + resident_after(75))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc on this system")
def test_memory_does_not_grow_with_calls_of_many_lengths(folder: Path) -> None:
    command = [sys.executable, "-c", MEMORY, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 128 << 20  # one leaked buffer a call would be several hundred MB
    assert done.stderr == ""


def test_inverse_stft_inverts_a_windowed_transform() -> None:
    """A wave cut into Hann frames and transformed comes back (edges included: the envelope is computed)."""
    rng = np.random.default_rng(0)
    n_fft, hop, frames = 3528, 882, 12
    wave = rng.standard_normal(hop * frames)
    padded = np.pad(wave, (n_fft - hop) // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    spectrum = np.fft.rfft([padded[hop * t : hop * t + n_fft] * window for t in range(frames)], axis=1)
    real, imag = spectrum.real.astype(np.float32), spectrum.imag.astype(np.float32)
    np.testing.assert_allclose(inverse_stft(real, imag, n_fft), wave, rtol=0, atol=1e-5)
    imag[:, [0, -1]] = 123.0  # the first and last bin have no imaginary part
    np.testing.assert_allclose(inverse_stft(real, imag, n_fft), wave, rtol=0, atol=1e-5)


def test_graphs_go_to_the_named_execution_providers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    real = ort.InferenceSession

    def opened(path: Path, options: ort.SessionOptions, providers: list[str]) -> ort.InferenceSession:
        seen.append(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", opened)
    asked = ("CUDAExecutionProvider", "CPUExecutionProvider")
    for codec in (OrtCodec.open(folder), OrtCodec.open(folder, providers=asked)):
        codec.decode(some_codes(2))
        codec.close()
    assert seen == [["CPUExecutionProvider"], list(asked)]


def test_build_info_names_version_and_providers() -> None:
    info = build_info()
    assert "CPUExecutionProvider" in info["providers"]
    assert info["version"][0].isdigit()
