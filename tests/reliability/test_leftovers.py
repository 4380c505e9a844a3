"""The next command removes the leftovers of a killed process; a missing resource is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers import Capture, cli, refused
from song_examples import all_content, finished_song

from yuegguf.errors import DamagedFile
from yuegguf.files import hashing
from yuegguf.files.atomic import WORKSPACE_PREFIX, WORKSPACE_SUFFIX
from yuegguf.models import offline_kit
from yuegguf.models.lockfile import Installed
from yuegguf.song.folder import SongFolder


@pytest.mark.parametrize("left", [".lock", f"{WORKSPACE_PREFIX}a{WORKSPACE_SUFFIX}"])
def test_a_finished_song_is_tidied_by_a_resume(left: str, tmp_path: Path, capsys: Capture) -> None:
    song = finished_song(tmp_path)
    before = all_content(song)
    (song / left).touch() if left == ".lock" else (song / left).mkdir()
    assert cli(capsys, "resume", song).code == 0
    assert all_content(song) == before


def test_a_finished_song_in_work_by_another_process_is_not_tidied(tmp_path: Path, capsys: Capture) -> None:
    song = finished_song(tmp_path)
    with SongFolder.open(song).claimed():
        assert cli(capsys, "resume", song).code == 0
        assert (song / ".lock").exists()


def test_a_copied_kit_is_tidied_by_the_next_copy(tmp_path: Path) -> None:
    source, target = tmp_path / "kit", tmp_path / "models"
    file = source / "xcodec" / "decoder.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"codec")
    name, digest = "xcodec/decoder.onnx", hashing.sha256_of(file)
    entry = Installed(name, "xcodec", "", 5, digest, "apache-2.0", "a/b", "0" * 40, {}, "test")
    offline_kit.copy_models(source, target, [entry])
    before = all_content(target)
    (target / "xcodec" / f"{WORKSPACE_PREFIX}a{WORKSPACE_SUFFIX}").mkdir()
    offline_kit.copy_models(source, target, [entry])
    assert all_content(target) == before


def test_no_more_memory_is_reported(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> SongFolder:
        raise MemoryError

    monkeypatch.setattr(SongFolder, "open", full)
    said = refused(capsys, 4, "bundle", finished_song(tmp_path))
    assert said.rstrip() == "the system gave no more memory; end other programs, or lift the limit"


@pytest.mark.parametrize("hidden", [False, True])
def test_too_many_open_files_are_reported_whatever_came_of_them(
    hidden: bool, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that could not be opened is not damaged, and a song says how to go on with it."""

    def crowded(path: Path) -> SongFolder:
        error = DamagedFile(f"{path} is damaged", "delete it")
        error.folder = path
        words = os.strerror(errno.EMFILE)
        raise error from (
            RuntimeError(f"failed to open x ({words})") if hidden else OSError(errno.EMFILE, words)
        )

    song = finished_song(tmp_path)
    monkeypatch.setattr(SongFolder, "open", crowded)
    assert refused(capsys, 1, "bundle", song).rstrip() == (
        "too many files are open; let a process open more, for example: ulimit -n 1024; "
        f"then go on with: yuegguf resume {song}"
    )
