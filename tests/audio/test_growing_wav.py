"""A WAV file that grows: valid after every single write, and gone on with by the next process."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from yuegguf.audio import growing_wav
from yuegguf.audio.growing_wav import GrowingWav, to_pcm
from yuegguf.errors import StorageError

COMMENT = "made by a test"
SAMPLES = np.random.default_rng(0).integers(-32768, 32768, 1000).astype(np.int16)


def begin(path: Path, samples: int = 0) -> GrowingWav:
    wav = GrowingWav.open(path, 16000, COMMENT)
    if samples:
        wav.append(SAMPLES[:samples])
    return wav


def heard(path: Path) -> np.ndarray:
    """What a player hears."""
    wave, rate = soundfile.read(path, dtype="int16")
    assert rate == 16000
    return wave


def test_every_byte_of_the_header_is_as_it_should_be(tmp_path: Path) -> None:
    begin(tmp_path / "a.wav", 3).close()
    data = (tmp_path / "a.wav").read_bytes()
    text = COMMENT.encode() + b"\0\0"  # ended, and padded to an even length
    assert data == (
        b"RIFF\x4e\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0"
        b"LIST\x1c\0\0\0INFOICMT\x10\0\0\0" + text + b"data\6\0\0\0" + SAMPLES[:3].tobytes()
    )
    assert len(data) == 8 + 0x4E
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        assert (file.comment, file.frames, file.subtype) == (COMMENT, 3, "PCM_16")


def test_a_file_without_a_comment_has_the_shortest_header(tmp_path: Path) -> None:
    GrowingWav.open(tmp_path / "a.wav", 16000, "").close()
    assert len((tmp_path / "a.wav").read_bytes()) == 44


def test_it_is_whole_after_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "a.wav", []
    wav = begin(path)
    write, cut = os.write, os.ftruncate

    def small_write(handle: int, data: bytes) -> int:
        count = write(handle, data[:100] if len(data) > 60 and not data.startswith(b"RIFF") else data)
        look()
        return count

    def watched_cut(handle: int, length: int) -> None:
        look()
        cut(handle, length)
        look()

    def look() -> None:
        found = heard(path)
        assert (found == SAMPLES[: len(found)]).all()
        seen.append(len(found))

    monkeypatch.setattr(growing_wav.os, "write", small_write)
    monkeypatch.setattr(growing_wav.os, "ftruncate", watched_cut)
    wav.append(SAMPLES[:200])
    wav.append(SAMPLES[200:500])
    wav.cut(300)
    wav.append(SAMPLES[300:])
    wav.close()
    assert sorted(set(seen)) == [0, 200, 300, 500, 1000]
    assert len(seen) > 20


def test_a_player_that_has_it_open_reads_on(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wav = begin(path, 100)
    with path.open("rb") as player:
        length = len(player.read())
        wav.append(SAMPLES[100:200])
        assert player.read() == SAMPLES[100:200].tobytes()
    assert path.stat().st_size == length + 200


def test_the_next_process_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    begin(path, 400).close()
    with path.open("ab") as file:
        file.write(b"half a write that a kill left")
    wav = begin(path)
    assert wav.samples == 400
    assert (wav.read(100, 400) == SAMPLES[100:400]).all()
    wav.append(SAMPLES[400:])
    wav.cut(2000)  # nothing to cut
    wav.close()
    assert (heard(path) == SAMPLES).all()


@pytest.mark.parametrize("change", ["rate", "comment", "cut off", "foreign", "empty"])
def test_what_is_not_its_own_is_begun_anew(change: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    GrowingWav.open(path, 8000 if change == "rate" else 16000, "x" if change == "comment" else COMMENT)
    data = path.read_bytes()
    if change == "cut off":
        begin(path, 300).close()
        path.write_bytes(path.read_bytes()[:-1])
    if change in ("foreign", "empty"):
        path.write_bytes(data.replace(b"WAVE", b"wave") if change == "foreign" else b"")
    assert begin(path).samples == 0
    assert len(heard(path)) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "a.wav", os.write
    wav = begin(path, 100)

    def full(handle: int, data: bytes) -> int:
        if len(data) > 50:
            return write(handle, data[:50])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(growing_wav.os, "write", full)
    with pytest.raises(StorageError, match="the disk is full"):
        wav.append(SAMPLES[100:200])
    assert (wav.samples, len(heard(path))) == (100, 100)


def test_samples_are_rounded_and_clipped() -> None:
    wave = np.array([0, 1, -1, 2, -2, 0.6 / 32768, -0.6 / 32768], np.float32)
    assert to_pcm(wave).tolist() == [0, 32767, -32768, 32767, -32768, 1, -1]
