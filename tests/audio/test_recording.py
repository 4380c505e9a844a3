"""Recordings: read in blocks and parts as if whole, and never believed further than they go."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import Capture, refused

from yuegguf.audio import dsp, recording
from yuegguf.audio.recording import open_recording, read_audio
from yuegguf.errors import RequestError

RATE = 44_100
SECONDS = 3
NOISE = np.random.default_rng(2).uniform(-0.5, 0.5, (SECONDS * RATE, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same noise as s.wav, s.flac, s.mp3, s.ogg, s.aiff, s.au, and mono as gsm.wav, which cannot seek."""
    folder = tmp_path_factory.mktemp("sounds")
    for kind in ("wav", "flac", "mp3", "ogg", "aiff", "au"):
        soundfile.write(folder / f"s.{kind}", NOISE, RATE)
    soundfile.write(folder / "gsm.wav", NOISE[:, 0], 8_000, subtype="GSM610")
    return folder


class Counted(recording.SoundFile):
    """A SoundFile that counts the samples it decodes."""

    decoded = 0

    def read(self, frames: int = -1, *args: Any, **options: Any) -> Any:
        found = super().read(frames, *args, **options)
        Counted.decoded += len(found)
        return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(recording, "SoundFile", Counted)
    monkeypatch.setattr(Counted, "decoded", 0)
    return Counted


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "aiff", "au"])
def test_a_length_is_known_without_decoding(kind: str, sounds: Path, counted: type[Counted]) -> None:
    found = open_recording(sounds / f"s.{kind}")
    assert counted.decoded <= 1
    assert (found.rate, found.samples) == (RATE, len(NOISE))
    assert len(soundfile.read(sounds / f"s.{kind}")[0]) == found.samples


def test_a_part_decodes_a_part(sounds: Path, counted: type[Counted]) -> None:
    found = open_recording(sounds / "s.flac")
    found.wave(16_000, 16_000, 17_600)
    assert counted.decoded < RATE // 5


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "aiff", "au"])
def test_any_part_is_that_of_the_whole(kind: str, sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "DECODE_VALUES", 10_000)
    found = open_recording(sounds / f"s.{kind}")
    whole = soundfile.read(sounds / f"s.{kind}", dtype="float32")[0].mean(axis=1, dtype=np.float32)
    np.testing.assert_array_equal(found.read(), whole)
    for first, last in ((0, 1), (12_345, 45_678), (len(whole) - 7, len(whole) + 99), (5, 5)):
        np.testing.assert_array_equal(found.read(first, last), whole[first:last])


def test_a_format_that_cannot_seek_is_read_up_to_the_part(sounds: Path) -> None:
    found = open_recording(sounds / "gsm.wav")
    whole = soundfile.read(sounds / "gsm.wav", dtype="float32")[0]
    assert found.samples == len(whole)
    np.testing.assert_array_equal(found.read(5_000, 6_000), whole[5_000:6_000])


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16_000, 8_000, 11_025, 22_050, 44_100, 48_000, 15_991])
@pytest.mark.parametrize("target", [16_000, 44_100])
def test_resampling_in_parts_is_resampling_the_whole(
    rate: int, target: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "RESAMPLE_SECONDS", 1)
    wave = NOISE[: round(2.6 * rate), 0]
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    found, whole = open_recording(tmp_path / "a.wav"), dsp.resample(wave, rate, target)
    assert found.length_at(target) == len(whole)
    for first, last in ((0, None), (target // 3, 2 * target + 5), (len(whole) - 10, 10**9), (7, 7)):
        np.testing.assert_allclose(found.wave(target, first, last), whole[first:last], rtol=0, atol=1e-6)


def test_a_kernel_made_in_rows_is_the_whole_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    first, kernel = dsp.resample_kernel.__wrapped__(441, 160)
    monkeypatch.setattr(dsp, "BLOCK_SAMPLES", 100)
    again, by_rows = dsp.resample_kernel.__wrapped__(441, 160)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(kernel, by_rows)


def test_codec_wave_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", NOISE.mean(axis=1), RATE, subtype="FLOAT")
    both, one = (open_recording(tmp_path / name).wave(16_000) for name in ("a.wav", "b.wav"))
    assert (both.shape, both.dtype) == ((SECONDS * 16_000,), np.float32)
    np.testing.assert_allclose(both, one, rtol=0, atol=1e-6)


def test_codec_wave_equals_the_official_loader(golden: Callable[[str], Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.load(golden("audio.npz"))["mix_44k_stereo"].T, RATE)
    expected = np.load(golden("codec_full.npz"))["mix_44k_mono16k"]
    found = open_recording(tmp_path / "a.wav").wave(16_000)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_the_frames_of_a_recording_are_known_before_it_is_encoded(rate: int) -> None:
    """As many as the codec makes: floor((S + 240) / 320) of the samples at 16 kHz, none below 20 ms."""
    some = np.random.default_rng(rate).integers(1, 2 * rate, 40).tolist()
    for samples in [1, 2, rate // 51, rate // 50, *some]:
        found = recording.Recording(Path("a.wav"), rate, samples)
        length = len(dsp.resample(np.zeros(samples, np.float32), rate, 16_000))
        assert found.length_at(16_000) == length
        assert found.codec_frames == ((length + 240) // 320 if length >= 312 else 0)


# What cannot be read


def _float_file(path: Path, samples: list[float], rate: int = RATE) -> None:
    soundfile.write(path, np.array(samples, np.float32), rate, subtype="FLOAT", format="WAV")


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "no audio file": lambda path: None,
    "is a folder, not an audio file": lambda path: path.mkdir(),
    "could not be read": lambda path: path.write_bytes(b"\1\2" * 300),
    "is a text \\(these are lyrics\\)": lambda path: path.write_text("these are lyrics"),
    "is an empty file": lambda path: path.write_bytes(b""),
    "holds no samples": lambda path: _float_file(path, []),
    "not numbers": lambda path: _float_file(path, [0.0, float("nan")]),
    "are not numbers": lambda path: _float_file(path, [0.0, float("inf")]),
    "or far above full scale": lambda path: _float_file(path, [0.0, -3e38]),
    "sample rate of 7 Hz": lambda path: _float_file(path, [0.0], 7),
    "sample rate of 2000000 Hz": lambda path: _float_file(path, [0.0], 2_000_000),
    "claims 1000 channels": lambda path: soundfile.write(path, np.zeros((3, 1000)), RATE),
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_unusable_files_are_request_errors(tmp_path: Path, message: str) -> None:
    path = tmp_path / "given.wav"
    BAD_FILES[message](path)
    with pytest.raises(RequestError, match=message) as caught:
        read_audio(path)
    assert caught.value.hint


def test_headerless_and_impossible_names_are_request_errors(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"\0" * 100)
    for path in (tmp_path / "a.raw", tmp_path / "a\0b", tmp_path / ("x" * 5_000)):
        with pytest.raises(RequestError):
            read_audio(path)


@pytest.mark.parametrize("content", [b"\0\1" * 99, b"fLaC" + b"\1" * 99])
def test_what_cannot_be_read_is_named_by_its_path_alone(content: bytes, tmp_path: Path) -> None:
    for path in (tmp_path / "x.RAW", tmp_path / "x.wav"):
        path.write_bytes(content)
        with pytest.raises(RequestError) as caught:
            open_recording(path)
        assert "object at" not in caught.value.message
        assert caught.value.message.count(str(path)) == 1


# Headers that lie


def wav_of(data: bytes, size: int) -> bytes:
    at = data.index(b"data") + 4
    return data[:at] + struct.pack("<I", size) + data[at + 4 :]


def flac_of(data: bytes, samples: int) -> bytes:
    """STREAMINFO with another number of samples, in its lowest 36 bits."""
    field = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    return data[:18] + field.to_bytes(8, "big") + data[26:]


def mp3_of(data: bytes, frames: int) -> bytes:
    """The Xing tag with another number of frames."""
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    return data[:at] + struct.pack(">I", frames) + data[at + 4 :]


def ogg_of(data: bytes, samples: int) -> bytes:
    """The last page with another position, and the checksum that belongs to it."""
    at = data.rindex(b"OggS")
    page = bytearray(data[at:])
    page[6:14], page[22:26] = struct.pack("<q", samples), b"\0" * 4
    rest = 0
    for byte in page:
        rest ^= byte << 24
        for _ in range(8):
            rest = (rest << 1 ^ (0x04C11DB7 if rest & 0x80000000 else 0)) & 0xFFFFFFFF
    page[22:26] = struct.pack("<I", rest)
    return data[:at] + bytes(page)


LIES = {
    "wav, 4 GB": ("wav", lambda data: wav_of(data, 0xFFFFFFFF)),
    "wav, 2 GB": ("wav", lambda data: wav_of(data, 0x7FFFFFF0)),
    "flac, 68 billion": ("flac", lambda data: flac_of(data, 2**36 - 1)),
    "flac, twice": ("flac", lambda data: flac_of(data, 2 * len(NOISE))),
    "flac, unknown": ("flac", lambda data: flac_of(data, 0)),
    "mp3, 5 trillion": ("mp3", lambda data: mp3_of(data, 2**32 - 1)),
    "mp3, twice": ("mp3", lambda data: mp3_of(data, 2 * len(NOISE) // 1152)),
    "mp3, another layer": ("mp3", lambda data: data[:1] + b"\xff\xff\xff\xff" + data[5:]),
    "ogg, a trillion": ("ogg", lambda data: ogg_of(data, 2**40)),
    "ogg, twice": ("ogg", lambda data: ogg_of(data, 2 * len(NOISE))),
    "wav, cut off": ("wav", lambda data: data[: len(data) // 2]),
    "flac, cut off": ("flac", lambda data: data[: len(data) // 2]),
    "mp3, cut off": ("mp3", lambda data: data[: len(data) // 2]),
    "ogg, cut off": ("ogg", lambda data: data[: len(data) // 2]),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_header_gives_what_is_there_or_one_sentence(
    name: str, sounds: Path, tmp_path: Path, counted: type[Counted]
) -> None:
    """Never memory for what is announced, nor more decoding than what is there, a few times over."""
    kind, change = LIES[name]
    path = tmp_path / f"x.{kind}"
    path.write_bytes(change((sounds / f"s.{kind}").read_bytes()))
    with suppress(RequestError):
        wave, _ = read_audio(path)
        assert len(wave) <= len(NOISE) + 2 * 1152
        assert np.isfinite(wave).all()
    assert counted.decoded <= 3 * (len(NOISE) + 2 * 1152)


@pytest.mark.parametrize("name", ["mp3, 5 trillion", "mp3, cut off", "ogg, a trillion", "wav, cut off"])
def test_the_length_of_what_is_there_counts(name: str, sounds: Path, tmp_path: Path) -> None:
    kind, change = LIES[name]
    path = tmp_path / f"x.{kind}"
    path.write_bytes(change((sounds / f"s.{kind}").read_bytes()))
    found = open_recording(path)
    assert found.samples == len(found.read()) <= len(NOISE) + 2 * 1152


def test_a_flac_from_a_pipe_whose_length_is_unknown_is_read_whole(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "x.flac").write_bytes(flac_of((sounds / "s.flac").read_bytes(), 0))
    found, whole = open_recording(tmp_path / "x.flac"), open_recording(sounds / "s.flac").read()
    np.testing.assert_array_equal(found.read(), whole)
    for first, last in ((100, 5_000), (len(whole) - 7, len(whole) + 99)):
        np.testing.assert_array_equal(found.read(first, last), whole[first:last])


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "aiff", "au"])
def test_any_change_of_a_file_is_a_recording_or_one_sentence(kind: str, sounds: Path, tmp_path: Path) -> None:
    whole, chance = (sounds / f"s.{kind}").read_bytes(), np.random.default_rng(7)
    path = tmp_path / f"x.{kind}"
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chance.integers(1, 6)):
            at = chance.integers(chance.choice([60, 600, len(data)]))
            data[at : at + 4] = chance.choice(
                [b"\xff" * 4, b"\0" * 4, b"\x7f" + bytes(data[at + 1 : at + 4]), chance.bytes(4)]
            )
        path.write_bytes(data)
        with suppress(RequestError):
            assert np.isfinite(open_recording(path).wave(16_000, 1_000, 20_000)).all()


@pytest.mark.parametrize("length", ["what is there", "more"])
def test_a_recording_of_days_is_refused_before_it_is_decoded_to_its_end(
    length: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: type[Counted], capsys: Capture
) -> None:
    monkeypatch.setattr(recording, "MAX_SECONDS", 3600)
    monkeypatch.setattr(recording, "DECODE_VALUES", 1 << 16)
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(3601 * 1_000), 1_000)
    announced = 2**36 - 1 if length == "more" else 3601 * 1_000
    path.write_bytes(flac_of(path.read_bytes(), announced))
    assert "long.flac" in refused(capsys, 5, "encode", path)
    assert counted.decoded <= 3601 * 1_000


def test_no_memory_for_a_recording_is_a_sentence(sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> object:
        raise MemoryError

    found = open_recording(sounds / "s.wav")
    monkeypatch.setattr(recording.np, "empty", full)
    for read in (found.read, lambda: found.wave(16_000), lambda: open_recording(sounds / "s.wav")):
        with pytest.raises(RequestError, match="too long for this machine's memory"):
            read()
