"""Files: what is written can be read back, the same twice, and every failure has a sentence."""

from __future__ import annotations

import errno
import os
import shutil
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from yuegguf.audio import ffmpeg, files
from yuegguf.audio.recording import open_recording, read_audio
from yuegguf.audio.tags import Tags
from yuegguf.errors import RequestError, StorageError

RATE = 44_100
BY_FFMPEG = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg writes this format")
FORMATS = [pytest.param(name, marks=BY_FFMPEG if name in ffmpeg.ENCODERS else ()) for name in files.FORMATS]
BY_LIBSNDFILE = ("wav", "flac", "mp3")
TITLE = "Sör 歌 노래"


def wave(seconds: float = 0.5) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.7 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * 3_000 * t)).astype(np.float32)


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("format", ["wav", "flac"])
def test_lossless_round_trip_is_half_a_step_away(tmp_path: Path, format: files.Format, bits: int) -> None:
    path = tmp_path / f"song.{format}"
    files.write_audio(path, wave(), format, bits=bits)
    back, rate = read_audio(path)
    assert (back.shape, back.dtype, rate) == ((len(wave()),), np.float32, RATE)
    assert soundfile.info(path).subtype == f"PCM_{bits}"
    assert np.abs(back - wave()).max() <= 0.5 / 2 ** (bits - 1)


def test_what_was_read_is_written_back_bit_for_bit(tmp_path: Path) -> None:
    steps = np.arange(-32768, 32768, dtype=np.int16)
    files.write_audio(tmp_path / "a.wav", steps.astype(np.float32) / 32768)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="int16")[0], steps)


def test_too_loud_is_clipped_not_wrapped(tmp_path: Path) -> None:
    files.write_audio(tmp_path / "a.wav", np.array([1.5, 1.0, -1.0, -7.0], np.float32))
    samples = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    assert samples.tolist() == [32767, 32767, -32768, -32768]


@pytest.mark.parametrize("format", FORMATS[2:])
def test_compressed_files_sound_the_same(tmp_path: Path, format: files.Format) -> None:
    files.write_audio(tmp_path / "song", wave(2), format)
    back, rate = read_audio(tmp_path / "song")
    assert rate == (48_000 if format == "opus" else RATE)
    assert abs(len(back) - 2 * rate) <= 2 * 1152
    assert np.std(back[rate // 2 : rate]) == pytest.approx(np.std(wave(2)[RATE // 2 : RATE]), rel=0.02)


@pytest.mark.parametrize("format", FORMATS)
def test_no_tags_are_written_unless_given(tmp_path: Path, format: files.Format) -> None:
    path = tmp_path / f"song.{format}"
    files.write_audio(path, wave(), format)
    assert b"yuegguf" not in path.read_bytes()
    files.write_audio(path, wave(), format, tags=Tags(comment="", software=""))
    assert b"yuegguf" not in path.read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_song_gives_the_same_bytes(tmp_path: Path, format: files.Format) -> None:
    paths = [tmp_path / name for name in ("one", "two")]
    for path in paths:
        files.write_audio(path, wave(), format, tags=Tags(TITLE))
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_two_channels_are_written_as_two(tmp_path: Path, format: files.Format) -> None:
    wide = np.stack([wave(1), -0.5 * wave(1)], axis=1)
    files.write_audio(tmp_path / f"a.{format}", wide, format, tags=Tags(TITLE))
    told = open_recording(tmp_path / f"a.{format}")
    assert told.seconds == pytest.approx(1, abs=0.06)
    np.testing.assert_allclose(np.std(told.read()), np.std(wide.mean(axis=1)), rtol=0.05)
    if format in BY_LIBSNDFILE:
        back, _ = soundfile.read(tmp_path / f"a.{format}")
        assert back.shape[1] == 2
        assert np.std(back[:, 1]) == pytest.approx(0.5 * np.std(back[:, 0]), rel=0.02)


def test_a_song_of_no_samples_is_a_valid_file(tmp_path: Path) -> None:
    files.write_audio(tmp_path / "a.wav", np.empty(0, np.float32))
    assert soundfile.info(tmp_path / "a.wav").frames == 0


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_a_storage_error_and_leaves_the_old_file(tmp_path: Path, format: files.Format) -> None:
    resource = pytest.importorskip("resource", reason="needs POSIX file size limits")
    path = tmp_path / "song"
    path.write_bytes(b"the old one")
    noise = np.random.default_rng(0).uniform(-1, 1, RATE * 3).astype(np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StorageError, match="could not be written"):
            files.write_audio(path, noise, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["song"]
    assert path.read_bytes() == b"the old one"


class SmallDisk(FileIO):
    """A file on a disk that has room for so many more bytes, and takes at most 1,000 at a time."""

    room = 0

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        if not SmallDisk.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = super().write(data[: min(1000, SmallDisk.room)])
        SmallDisk.room -= done
        return done


@pytest.mark.parametrize("format", BY_LIBSNDFILE)
def test_a_full_disk_has_its_name_wherever_libsndfile_meets_it(
    tmp_path: Path, format: files.Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the header, in the samples, and in the last byte, whose loss libsndfile itself does not report."""
    path = tmp_path / "song"
    noise = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)
    files.write_audio(path, noise, format, tags=Tags())
    whole = path.read_bytes()
    monkeypatch.setattr(files, "FileIO", SmallDisk)
    SmallDisk.room = plenty = 10 * len(whole)
    files.write_audio(path, noise, format, tags=Tags())
    taken = plenty - SmallDisk.room
    assert path.read_bytes() == whole
    for room in (0, 10, taken // 2, taken - 1):
        SmallDisk.room = room
        with pytest.raises(StorageError) as raised:
            files.write_audio(path, noise, format, tags=Tags())
        assert str(raised.value) == (
            f"the disk is full: {path} could not be written; free some space and try again"
        )
        assert [(file.name, file.read_bytes() == whole) for file in tmp_path.iterdir()] == [("song", True)]


def test_unwritable_places_are_storage_errors(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        files.write_audio(tmp_path / "missing" / "a.wav", wave())
    (tmp_path / "folder.wav" / "in it").mkdir(parents=True)
    with pytest.raises(StorageError):
        files.write_audio(tmp_path / "folder.wav", wave())
    assert [file.name for file in tmp_path.iterdir()] == ["folder.wav"]


def test_unknown_formats_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    with pytest.raises(RequestError, match="ogg"):
        files.write_audio(path, wave(), "ogg")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="32 bits"):
        files.write_audio(path, wave(), "wav", bits=32)
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": ""})
    with pytest.raises(RequestError, match="cannot write mp3"):
        files.write_audio(path, wave(), "mp3")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_in_a_write_of_libsndfile_is_raised_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libsndfile calls back from C, where nothing can be raised."""

    class Pressed(FileIO):
        def write(self, data: object) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr("yuegguf.audio.files.FileIO", Pressed)
    with pytest.raises(KeyboardInterrupt):
        files.write_audio(tmp_path / "a.wav", np.zeros(1000, np.float32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["#!/bin/sh\nexec sleep 60\n", "#!/no/such/interpreter\n"])
def test_an_ffmpeg_that_does_not_run_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ffmpeg").write_text(line)
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(ffmpeg, "LIST_SECONDS", 0.2)
    with pytest.raises(RequestError, match=r"the installed ffmpeg .* does not run; install it"):
        ffmpeg.check_encoder("opus")
