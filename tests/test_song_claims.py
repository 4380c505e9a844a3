"""Song folders that were left by a kill, are held by another process, or wait to be resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.files import replacing
from yuegguf.request import SongRequest
from yuegguf.song import SongFolder, newest_interrupted


def make(parent: Path) -> SongFolder:
    return SongFolder.create(parent, "song", SongRequest("pop", "[verse]\nla"), {})


def test_another_process_that_is_at_work_loses_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.lock()
    with replacing(folder.path / "mix.wav") as part:
        part.write_bytes(b"sound")
        with pytest.raises(StorageError, match="being worked on by another yuegguf"):
            SongFolder.open(folder.path).lock()
    assert (folder.path / "mix.wav").read_bytes() == b"sound"


def test_the_state_is_read_again_under_the_lock(tmp_path: Path) -> None:
    waiting = make(tmp_path)
    other = SongFolder.open(waiting.path)
    other.lock()
    other.advance("done", files=["mix.wav"])
    other.unlock()
    waiting.lock()
    assert (waiting.state, waiting.fact("files")) == ("done", ["mix.wav"])
    waiting.unlock()
    (waiting.path / "song.json").write_text("{")
    with pytest.raises(DamagedFile):
        waiting.lock()
    other.unlock()
    (waiting.path / "song.json").write_text(json.dumps(waiting._data))
    other.lock()  # the failed claim let go


def aged(folder: SongFolder, name: str, seconds: float) -> None:
    file = folder.path / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    os.utime(file, (seconds, seconds))


@pytest.mark.parametrize("name", ["tokens.log", "chunks/0-000000.npy"])
def test_the_newest_song_is_the_one_worked_on_last(name: str, tmp_path: Path) -> None:
    older, newer = make(tmp_path), make(tmp_path)
    aged(older, "song.json", 1000)
    aged(newer, "song.json", 2000)
    assert newest_interrupted(tmp_path) == newer.path
    aged(older, name, 3000)
    assert newest_interrupted(tmp_path) == older.path


@pytest.mark.parametrize("content", ["{", '{"format": 99}'])
def test_a_folder_that_cannot_be_opened_does_not_block_the_others(content: str, tmp_path: Path) -> None:
    good, bad = make(tmp_path), make(tmp_path)
    (bad.path / "song.json").write_text(content)
    aged(good, "song.json", 1000)
    assert newest_interrupted(tmp_path) == good.path
    good.advance("done")
    with pytest.raises(DamagedFile, match=r"damaged|newer"):
        newest_interrupted(tmp_path)
