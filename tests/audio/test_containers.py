"""Files that are not what libsndfile reads: called by their names, or decoded by an installed ffmpeg."""

from __future__ import annotations

import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from yuegguf.audio import containers, decoding
from yuegguf.audio.recording import open_recording, read_audio
from yuegguf.errors import RequestError, StorageError

RATE = 44_100
TONE = (0.3 * np.sin(np.arange(RATE) / 9)).astype(np.float32)


@pytest.fixture(autouse=True)
def decoded_anew() -> Iterator[None]:
    """Files decoded for one test are not kept for another."""
    decoding.forget_decoded()
    yield
    decoding.forget_decoded()


def written(folder: Path, suffix: str) -> bytes:
    """The tone as a file of a format."""
    path = folder / f"tone{suffix}"
    soundfile.write(path, TONE, RATE)
    return path.read_bytes()


def id3(size: int, version: int) -> bytes:
    """An ID3 tag with a picture of `size` bytes."""
    synchsafe = [bytes(n >> s & 0x7F for s in (21, 14, 7, 0)) for n in (size, size + 10)]
    length = struct.pack(">I", size) if version == 3 else synchsafe[0]
    picture = b"\0image/jpeg\0\3\0" + bytes(n * 7 & 0xFF for n in range(size - 14))
    return b"ID3" + bytes((version, 0, 0)) + synchsafe[1] + b"APIC" + length + b"\0\0" + picture


def ape(size: int) -> bytes:
    """An APE tag of `size` bytes with its header and footer."""
    fields = [struct.pack("<IIII", 2000, size + 32, 1, flags) for flags in (0xA0000000, 0x80000000)]
    return b"APETAGEX" + fields[0] + bytes(8) + b"x" * size + b"APETAGEX" + fields[1] + bytes(8)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda mp3: id3(400_000, 3) + mp3,
        lambda mp3: id3(60_000, 4) + mp3,
        lambda mp3: id3(1000, 3) + id3(5000, 4) + mp3,
        lambda mp3: ape(5000) + mp3,
        lambda mp3: mp3 + ape(5000),
        lambda mp3: mp3 + ape(100) + b"TAG" + b"x" * 125,
    ],
)
def test_tags_around_an_mp3_change_no_sample(wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    mp3 = written(tmp_path, ".mp3")
    (tmp_path / "tagged.mp3").write_bytes(wrap(mp3))
    assert np.array_equal(read_audio(tmp_path / "tagged.mp3")[0], read_audio(tmp_path / "tone.mp3")[0])


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_is_read_to_its_end(size: int, tmp_path: Path) -> None:
    wav = bytearray(written(tmp_path, ".wav"))
    struct.pack_into("<I", wav, 4, size)
    struct.pack_into("<I", wav, wav.index(b"data") + 4, size)
    (tmp_path / "piped.wav").write_bytes(wav)
    wave, rate = read_audio(tmp_path / "piped.wav")
    assert rate == RATE
    assert np.array_equal(wave, read_audio(tmp_path / "tone.wav")[0])


def test_a_part_of_a_wav_from_a_pipe_is_that_of_the_whole(tmp_path: Path) -> None:
    wav = bytearray(written(tmp_path, ".wav"))
    struct.pack_into("<I", wav, wav.index(b"data") + 4, 0)
    (tmp_path / "piped.wav").write_bytes(wav)
    recording = open_recording(tmp_path / "piped.wav")
    assert np.array_equal(recording.read(1000, 2000), recording.read()[1000:2000])


@pytest.mark.parametrize("chunk", [b"LIST\4\0\0\0abcd", b"id3 \3\0\0\0abc\0" + b"LIST\4\0\0\0abcd"])
def test_chunks_behind_an_empty_wav_are_no_samples(chunk: bytes, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", TONE[:0], RATE)
    wav = bytearray((tmp_path / "a.wav").read_bytes() + chunk)
    struct.pack_into("<I", wav, 4, len(wav) - 8)
    (tmp_path / "a.wav").write_bytes(wav)
    with pytest.raises(RequestError, match="holds no samples"):
        open_recording(tmp_path / "a.wav")


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_streams_one_after_the_other_are_refused(
    subtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, TONE[:24_000], 48_000, format="OGG", subtype=subtype)
    samples = open_recording(path).samples
    assert samples >= 24_000
    path.write_bytes(path.read_bytes() * 2)
    for size in (1 << 20, 1 << 10, 97):
        monkeypatch.setattr(containers, "CHUNK_BYTES", size)
        with pytest.raises(RequestError, match="several streams one after the other"):
            open_recording(path)


@pytest.mark.parametrize("kind", ["AU", "CAF", "W64", "RF64", "WAVEX", "AIFF"])
def test_kinds_that_are_read(kind: str, tmp_path: Path) -> None:
    for endian in ("FILE", "LITTLE") if kind in ("AU", "CAF") else ("FILE",):
        soundfile.write(tmp_path / "a.bin", TONE, RATE, format=kind, subtype="FLOAT", endian=endian)
        assert np.array_equal(read_audio(tmp_path / "a.bin")[0], TONE)


@pytest.mark.parametrize("kind", ["SDS", "VOC", "PAF", "XI", "MAT5", "NIST", "SVX", "HTK", "AVR", "PVF"])
@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".vox"])
def test_other_kinds_are_never_given_to_libsndfile(
    kind: str, suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its reader of SDS writes a line to stdout for each damaged block."""
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, TONE[:4000], RATE, format=kind, subtype="DPCM_16" if kind == "XI" else "PCM_16")
    data = bytearray(path.read_bytes())
    data[300::127] = b"\x7f" * len(data[300::127])
    path.write_bytes(data)
    with pytest.raises(RequestError, match="its kind is not known"):
        read_audio(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "name"), [(".wav", "a.raw"), (".mp3", "a.wav"), (".wav", "a.mp3"), (".flac", "a.m4a")]
)
def test_a_wrong_suffix_is_read_by_content(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(written(tmp_path, kind))
    assert np.array_equal(read_audio(tmp_path / name)[0], read_audio(tmp_path / f"tone{kind}")[0])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a git-lfs pointer, not the file itself; in a clone of its repository run: git lfs pull",
        ),
        (b"\n <!DOCTYPE html><p>404", "is a web page"),
        (b"\x1f\x8b\x08\0rest", "is a gzip archive"),
        (b"PK\3\4rest", "is a zip archive"),
        (b"#EXTM3U\n/etc/x\n", "is a playlist"),
        (b"MThd\0\0\0\6", "is a MIDI file, which holds notes and no sound"),
    ],
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a"])
def test_what_is_no_recording_is_named(content: bytes, sentence: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=sentence):
        open_recording(tmp_path / name)


MP4 = b"\0\0\0\x20ftypM4A \0\0\0\0"
WEBM, WMA = b"\x1a\x45\xdf\xa3rest", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11rest"


@pytest.mark.parametrize(
    ("content", "kind"), [(MP4, "an MP4 or m4a file"), (WEBM, "a WebM or Matroska"), (WMA, "a WMA file")]
)
def test_without_ffmpeg_the_command_is_named(
    content: bytes, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (tmp_path / "my song.bin").write_bytes(content)
    with pytest.raises(RequestError, match=f"is {kind}") as error:
        open_recording(tmp_path / "my song.bin")
    assert error.value.hint.endswith("ffmpeg -i 'my song.bin' 'my song.wav'")


def test_the_command_never_writes_over_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (tmp_path / "a.WAV").write_bytes(MP4)
    with pytest.raises(RequestError) as error:
        open_recording(tmp_path / "a.WAV")
    assert error.value.hint.endswith("ffmpeg -i a.WAV a-decoded.wav")


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> Path:
    """A program named ffmpeg, the only one on the PATH; returns the file of its arguments."""
    folder.mkdir()
    log = folder / "arguments"
    script = (
        f"#!{sys.executable}\nimport sys\nopen({str(log)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n{body}"
    )
    (folder / "ffmpeg").write_text(script)
    (folder / "ffmpeg").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder))
    return log


def test_ffmpeg_decodes_once_and_its_samples_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "tone.au", TONE, RATE, subtype="FLOAT", endian="BIG")
    body = f"sys.stdout.buffer.write(open({str(tmp_path / 'tone.au')!r}, 'rb').read())"
    log = program(tmp_path / "bin", monkeypatch, body)
    (tmp_path / "a.m4a").write_bytes(MP4)
    recording = open_recording(tmp_path / "a.m4a")
    assert (recording.samples, recording.rate) == (len(TONE), RATE)
    assert np.array_equal(recording.read(500, 900), TONE[500:900])
    assert np.array_equal(read_audio(tmp_path / "a.m4a")[0], TONE)
    (arguments,) = log.read_text().splitlines()
    assert f"'-f', 'mov', '-i', 'file:{tmp_path / 'a.m4a'}'" in arguments
    assert "'-protocol_whitelist', 'file,fd,pipe'" in arguments


def test_what_ffmpeg_cannot_decode_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", monkeypatch, "sys.stderr.write('one\\nmoov atom not found\\n'); sys.exit(1)")
    (tmp_path / "a.m4a").write_bytes(MP4)
    with pytest.raises(RequestError, match=r"could not decode .*a\.m4a \(moov atom not found\)"):
        open_recording(tmp_path / "a.m4a")


def decoded_tone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Path]:
    """Bytes of the decoded tone, and the log of a program that writes it whatever it is asked."""
    soundfile.write(folder / "tone.au", TONE, RATE, subtype="FLOAT", endian="BIG")
    body = f"sys.stdout.buffer.write(open({str(folder / 'tone.au')!r}, 'rb').read())"
    log = program(folder / "bin", monkeypatch, body)
    (folder / "a.m4a").write_bytes(MP4)
    return (folder / "tone.au").stat().st_size, log


def test_a_decoded_file_of_too_many_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, log = decoded_tone(tmp_path, monkeypatch)
    monkeypatch.setattr(decoding, "MAX_BYTES", size)
    with pytest.raises(RequestError, match=r"a\.m4a has more than .* of samples; cut out the part"):
        open_recording(tmp_path / "a.m4a")
    assert f"'-fs', '{size}'" in log.read_text()


def test_a_decoded_file_takes_half_of_the_free_space_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, log = decoded_tone(tmp_path, monkeypatch)
    monkeypatch.setattr(decoding, "free_disk", lambda _folder: 2 * size)
    with pytest.raises(StorageError, match=r"no room to decode .*a\.m4a; set TMPDIR"):
        open_recording(tmp_path / "a.m4a")
    assert f"'-fs', '{size}'" in log.read_text()
    monkeypatch.setattr(decoding, "free_disk", lambda _folder: 2 * size + 2)
    assert open_recording(tmp_path / "a.m4a").samples == len(TONE)


def test_an_ffmpeg_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", monkeypatch, "import time; time.sleep(600)")
    monkeypatch.setattr(decoding, "TIMEOUT_SECONDS", 0.2)
    (tmp_path / "a.m4a").write_bytes(MP4)
    with pytest.raises(RequestError, match=r"did not decode .*a\.m4a in 0 minutes"):
        open_recording(tmp_path / "a.m4a")


def test_decoded_files_are_kept_up_to_a_number_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, log = decoded_tone(tmp_path, monkeypatch)
    (tmp_path / "b.m4a").write_bytes(MP4)

    def decodings() -> int:
        for name in "ab":
            open_recording(tmp_path / f"{name}.m4a")
        count = len(log.read_text().splitlines())
        log.write_text("")
        return count

    assert [decodings(), decodings()] == [2, 0]
    monkeypatch.setattr(decoding, "KEPT_BYTES", 2 * size - 1)
    decoding.forget_decoded()
    assert [decodings(), decodings()] == [2, 2]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_rate_of_a_decoded_file_is_limited(tmp_path: Path) -> None:
    target = tmp_path / "silence.mka"
    source = "anullsrc=r=192000:cl=7.1:d=2"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:a", "flac", str(target)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this ffmpeg does not write flac in Matroska")
    recording = open_recording(target)
    assert (recording.rate, recording.seconds) == (48_000, pytest.approx(2, abs=0.01))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".wma", ".aac", ".wv", ".mka"])
def test_the_real_ffmpeg_decodes(suffix: str, tmp_path: Path) -> None:
    written(tmp_path, ".wav")
    target = tmp_path / f"tone{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "tone.wav"), str(target)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"this ffmpeg does not write {suffix}")
    recording = open_recording(target)
    assert recording.seconds == pytest.approx(1, abs=0.1)  # encoders pad to whole blocks
    assert np.sqrt(np.mean(recording.read() ** 2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)
