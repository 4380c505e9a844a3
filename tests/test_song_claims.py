"""Song folders that were left by a kill, are held by another process, or wait to be resumed."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.files import replacing, sweep
from yuegguf.request import SongRequest
from yuegguf.song import SongFolder, newest_interrupted


def make(parent: Path) -> SongFolder:
    return SongFolder.create(parent, "song", SongRequest("pop", "[verse]\nla"), {})


def test_what_a_killed_process_left_goes_when_the_folder_is_claimed(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.save_chunk(0, 0, np.zeros((8, 3), np.int16))
    kept = sorted(folder.path.rglob("*"))
    for name in (".mix.wav.4711.part", "chunks/.0-000000.npy.12.part", "cache/1/.row0.bin.9.part"):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_bytes(b"half")
    (folder.path / ".my.part").write_text("not one of ours")
    SongFolder.open(folder.path)
    assert (folder.path / ".mix.wav.4711.part").exists()  # somebody may be writing it
    folder.lock()
    left = {path for path in folder.path.rglob("*") if path.is_file()}
    assert left == {*(path for path in kept if path.is_file()), folder.path / ".my.part"}


def test_a_writer_that_is_killed_leaves_a_file_that_sweep_knows(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from yuegguf.files import replacing\n"
        f"with replacing(Path({str(tmp_path / 'mix.wav')!r})) as part:\n"
        "    part.write_bytes(b'half'); time.sleep(60)"
    )
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert [path.name for path in tmp_path.iterdir()] == [f".mix.wav.{process}.part"]
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_can_hold_songs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(_handle: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    folder = make(tmp_path)
    monkeypatch.setattr(fcntl, "flock", flock)
    part = folder.path / ".mix.wav.1.part"
    part.touch()
    folder.lock()
    assert part.exists()  # without a lock nobody knows whose it is
    folder.unlock()


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
