"""Song folders that were left by a kill, are held by another process, or wait to be resumed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import new_song

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.files.atomic import replacing
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import newest_interrupted


def test_another_process_that_is_at_work_loses_nothing(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    another = pytest.raises(StorageError, match="being worked on by another yuegguf")
    with folder.claimed(), replacing(folder.path / "mix.wav") as part:
        part.write_bytes(b"sound")
        with another, SongFolder.open(folder.path).claimed():
            raise AssertionError
    assert (folder.path / "mix.wav").read_bytes() == b"sound"


def test_a_claim_may_be_nested_and_ends_with_the_outermost(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    with folder.claimed():
        with folder.claimed():
            pass
        with pytest.raises(StorageError), SongFolder.open(folder.path).claimed():
            raise AssertionError
    with SongFolder.open(folder.path).claimed():
        pass


def test_the_state_is_read_again_under_the_claim(tmp_path: Path) -> None:
    waiting = new_song(tmp_path)
    other = SongFolder.open(waiting.path)
    with other.claimed():
        other.advance("done", files=("mix.wav",))
    with waiting.claimed():
        assert (waiting.state, waiting.record.files) == ("done", ("mix.wav",))
    good = (waiting.path / "song.json").read_bytes()
    (waiting.path / "song.json").write_text("{")
    with pytest.raises(DamagedFile), waiting.claimed():
        raise AssertionError
    (waiting.path / "song.json").write_bytes(good)
    with other.claimed():  # the failed claim let go
        pass


def aged(folder: SongFolder, name: str, seconds: float) -> None:
    file = folder.path / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    os.utime(file, (seconds, seconds))


@pytest.mark.parametrize("name", ["tokens.log", "chunks/0-000000.npy"])
def test_the_newest_song_is_the_one_worked_on_last(name: str, tmp_path: Path) -> None:
    older, newer = new_song(tmp_path), new_song(tmp_path)
    aged(older, "song.json", 1000)
    aged(newer, "song.json", 2000)
    assert newest_interrupted(tmp_path) == newer.path
    aged(older, name, 3000)
    assert newest_interrupted(tmp_path) == older.path


@pytest.mark.parametrize("content", ["{", '{"format": 99}'])
def test_a_folder_that_cannot_be_opened_does_not_block_the_others(content: str, tmp_path: Path) -> None:
    good, bad = new_song(tmp_path), new_song(tmp_path)
    (bad.path / "song.json").write_text(content)
    aged(good, "song.json", 1000)
    assert newest_interrupted(tmp_path) == good.path
    good.advance("done")
    with pytest.raises(DamagedFile, match=r"damaged|newer"):
        newest_interrupted(tmp_path)
