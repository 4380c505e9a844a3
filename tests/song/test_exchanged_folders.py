"""Folders and files that another process exchanges for links between two steps, and hard links: nothing
that lies elsewhere is read into a bundle, written or deleted."""

from __future__ import annotations

import itertools
import os
import shutil
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import FAST, OURS, Capture, cli, ended, refused, song_bytes
from song_examples import SOUND, all_content, finished_song

from yuegguf.errors import StorageError
from yuegguf.files.atomic import locked_folder, replacing, sweep
from yuegguf.files.steady import check_steady, fenced, steady
from yuegguf.song.folder import SongFolder
from yuegguf.song.token_log import HEADER, TokenLog

SONG = (*OURS, *FAST)
LINE = (*SONG, "--snapshot-every", 15, "--preview-every", 0.5)
CANARY = (
    *("song.json", "tokens.log", ".lock", "mix.wav", "stage1.npz", "stage2.npz", "preview.wav"),
    *("chunks/0-000000.npz", "chunks/mine", "cache/mine/row0.bin", "cache/0-1/row0.bin", "markers.txt"),
)
STEPS = {
    "sampling": "yuegguf.song.token_log:TokenLog.sync",
    "stage 1": "yuegguf.song.folder:SongFolder.save_stage1",
    "a chunk": "yuegguf.song.folder:SongFolder.save_chunk",
    "stage 2": "yuegguf.song.folder:SongFolder.save_stage2",
    "a file": "yuegguf.pipeline.write_audio:write_audio",
    "markers": "yuegguf.pipeline.phases:write_markers",
    "the state": "yuegguf.song.folder:SongFolder.advance",
    "dropping": "yuegguf.song.folder:SongFolder.delete_folder",
}
pytestmark = pytest.mark.usefixtures("no_models", "clock")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes between two looks of the snapshots at the clock."""
    ticks = SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr("yuegguf.song.cache_snapshots.time", ticks)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder of the user's with the names that a song has."""
    folder = tmp_path / "mine"
    for name in CANARY:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return folder


def at_step(patch: pytest.MonkeyPatch, step: str, act: Callable[[], None]) -> list[int]:
    """Do something once, before a function is called; the list holds how often that was."""
    module, _, names = step.partition(":")
    owner: Any = import_module(module)
    *outer, last = names.split(".")
    for name in outer:
        owner = getattr(owner, name)
    real, done = getattr(owner, last), list[int]()

    def stepped(*args: Any, **more: Any) -> Any:
        if not done:
            done.append(1)
            act()
        return real(*args, **more)

    patch.setattr(owner, last, stepped)
    return done


def exchanged(path: Path, other: Path) -> None:
    """Move what is there aside, and put a link to another place there."""
    path.rename(path.with_name(f"{path.name} aside"))
    path.symlink_to(other)


def put_back(path: Path) -> None:
    path.unlink()
    path.with_name(f"{path.name} aside").rename(path)


def last_song(parent: Path) -> Path:
    (found,) = (path for path in parent.iterdir() if not path.name.endswith(" aside"))
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_song_that_is_exchanged_while_it_is_made(
    step: str,
    canary: Path,
    song: Path,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    songs, before = tmp_path / "songs", all_content(canary)
    monkeypatch.setattr("yuegguf.song.token_log.SYNC_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        done = at_step(patch, STEPS[step], lambda: exchanged(last_song(songs), canary))
        result = cli(capsys, "run", *LINE, "-o", songs)
    assert done
    assert (result.code, "since another program changed it" in result.error) in ((1, True), (7, False)), (
        result
    )
    assert all_content(canary) == before
    made = last_song(songs)
    put_back(made)
    ended(cli(capsys, "resume", made, "--threads", 1))
    assert song_bytes(made) == song_bytes(song)
    assert all_content(canary) == before


@pytest.mark.parametrize("name", ["chunks", "cache"])
def test_a_folder_in_it_that_is_exchanged(
    name: str,
    canary: Path,
    song: Path,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    songs, before = tmp_path / "songs", all_content(canary)
    step = {"chunks": STEPS["a chunk"], "cache": "yuegguf.song.cache_snapshots:KvSnapshots._save"}[name]

    def exchange() -> None:
        made = last_song(songs)
        (made / name).mkdir(exist_ok=True)
        exchanged(made / name, canary / name)

    with monkeypatch.context() as patch:
        at_step(patch, step, exchange)
        result = cli(capsys, "run", *LINE, "-o", songs)
    assert all_content(canary) == before
    assert "since another program changed it" in result.err
    made = last_song(songs)
    shutil.rmtree(made / f"{name} aside")
    (made / name).unlink()
    ended(cli(capsys, "resume", made, "--threads", 1))
    assert song_bytes(made) == song_bytes(song)


@pytest.mark.parametrize("step", ["a file", "the state"])
def test_a_rendered_song_that_is_exchanged(
    step: str, canary: Path, song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, before = tmp_path / "copy", all_content(canary)
    shutil.copytree(song, copy)
    at_step(monkeypatch, STEPS[step], lambda: exchanged(copy, canary))
    said = refused(capsys, 1, "render", copy, "--no-stems", "--format", "flac", "--force")
    assert "since another program changed it" in said
    assert all_content(canary) == before


def test_takes_that_are_exchanged_are_not_deleted(
    canary: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(cli(capsys, "run", *SONG, "-n", 2, "-o", tmp_path / "takes"))
    takes = last_song(tmp_path / "takes")
    (canary / "take-2").mkdir()
    (canary / "take-2" / "song.json").write_text("mine")
    before = all_content(canary)
    at_step(monkeypatch, "yuegguf.song.library:check_steady", lambda: exchanged(takes, canary))
    result = cli(capsys, "takes", "keep", takes, 1, "--delete-others")
    assert result.code == 1
    assert all_content(canary) == before


@pytest.mark.parametrize("what", ["the folder", "mix.wav", "markers.txt"])
def test_a_bundle_holds_nothing_from_elsewhere(
    what: str, canary: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = finished_song(tmp_path)
    target = (song, canary) if what == "the folder" else (song / what, canary / what)
    at_step(monkeypatch, "yuegguf.exchange.zip_bundle:_add_file", lambda: exchanged(*target))
    said = refused(capsys, 1, "bundle", song, "-o", tmp_path / "song.zip")
    assert "since another program changed it" in said
    assert not (tmp_path / "song.zip").exists()


def test_a_bundle_of_a_song_behind_links_is_whole(capsys: Capture, tmp_path: Path) -> None:
    song = finished_song(tmp_path)
    (song / "mix.wav").rename(song / "other.wav")
    (song / "mix.wav").symlink_to("other.wav")
    (tmp_path / "link").symlink_to(song)
    assert cli(capsys, "bundle", tmp_path / "link", "-o", tmp_path / "song.zip").code == 0
    with zipfile.ZipFile(tmp_path / "song.zip") as archive:
        assert archive.read(f"{song.name}/mix.wav") == SOUND


def test_a_bundle_lies_beside_the_song_however_that_is_named(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = finished_song(tmp_path)
    (song / "notes").mkdir()
    (tmp_path / "link").symlink_to(song)
    before = all_content(song)
    for folder, name in ((song, "."), (song / "notes", ".."), (tmp_path, song.name), (tmp_path, "link")):
        monkeypatch.chdir(folder)
        made = tmp_path / f"{'link' if name == 'link' else song.name}.zip"
        assert cli(capsys, "bundle", name).code == 0
        assert all_content(song) == before
        made.unlink()
    assert refused(capsys, 5, "bundle", "/").startswith("/ is not a song folder")


def test_users_of_a_steady_folder_may_leave_in_any_order(tmp_path: Path) -> None:
    folder = tmp_path / "song"
    folder.mkdir()
    first, second = steady(folder), steady(folder)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    check_steady(folder / "file")
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    with pytest.raises(StorageError, match="is no longer the folder that it was"):
        check_steady(folder / "file")
    with steady(folder), pytest.raises(StorageError, match="is no longer the folder that it was"):
        check_steady(folder / "file")
    second.__exit__(None, None, None)
    check_steady(folder / "file")


def test_a_fence_ends_with_its_own_holder(tmp_path: Path) -> None:
    called = list[str]()
    first = fenced(tmp_path, lambda: called.append("first"))
    second = fenced(tmp_path, lambda: called.append("second"))
    first.__enter__()
    check_steady(tmp_path / "file")
    second.__enter__()
    first.__exit__(None, None, None)
    check_steady(tmp_path / "file")
    second.__exit__(None, None, None)
    check_steady(tmp_path / "file")
    assert called == ["first", "second"]


def test_what_is_steady_may_be_written_and_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "song"
    folder.mkdir()
    (folder / "file").symlink_to(tmp_path / "elsewhere")
    with locked_folder(folder), steady(folder):
        with replacing(folder / "file") as beside:  # the link goes, not what it leads to
            beside.write_text("new")
        (folder / "sub").mkdir()
        check_steady(folder / "sub" / "file")
        exchanged(folder / "sub", tmp_path)
        with pytest.raises(StorageError, match="leads out of"):
            check_steady(folder / "sub" / "file")
    assert (folder / "file").read_text() == "new"
    check_steady(folder / "sub" / "file")  # nobody holds it any more


# Hard links


@pytest.mark.parametrize("name", ["tokens.log", "preview.wav"])
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_written_in_place_stays_as_it_is_under_its_other_name(
    name: str, whole: bool, song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a copy of a song that `cp -l` made."""
    songs = tmp_path / "songs"
    with monkeypatch.context() as patch:

        def stop() -> None:
            raise KeyboardInterrupt

        at_step(patch, STEPS["stage 1"], stop)
        assert cli(capsys, "run", *LINE, "-o", songs).code == 130
    made, other = last_song(songs), tmp_path / "other"
    content = (made / name).read_bytes()
    if not whole:
        content = content[: len(HEADER if name == "tokens.log" else content) // 2 * 2]
        content = HEADER if name == "tokens.log" else content[:100]
    other.write_bytes(content)
    (made / name).unlink()
    os.link(other, made / name)
    ended(cli(capsys, "resume", made, "--threads", 1))
    assert other.read_bytes() == content
    assert song_bytes(made) == song_bytes(song)


def test_an_empty_file_of_somebody_elses_stays_empty(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    os.link(tmp_path / "other", tmp_path / "tokens.log")
    log = TokenLog.open(tmp_path / "tokens.log")
    log.append(0, 1)
    log.close()
    assert (tmp_path / "other").read_bytes() == b""


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_lock_that_is_a_link_is_never_opened(
    link: Callable[[Path, Path], None], canary: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Some versions of filelock empty what they open."""
    song, before = finished_song(tmp_path), all_content(canary)
    left = song / ".yuegguf-left.part"
    left.mkdir()
    for place in (left / "owner.lock", song / ".lock"):
        link(canary / "mix.wav", place)
    sweep(song)
    assert left.exists()
    result = cli(capsys, "render", song, "--no-stems")
    assert result.code in (1, 7)
    assert result.error
    with pytest.raises(StorageError, match="link to another file"), locked_folder(song):
        raise AssertionError
    assert all_content(canary) == before


def test_songs_that_are_renamed_by_hand_are_refused_while_they_are_claimed(tmp_path: Path) -> None:
    song = SongFolder.open(finished_song(tmp_path))
    with song.claimed():
        song.path.rename(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="no longer the folder"):
            song.advance("master")
    assert SongFolder.open(tmp_path / "elsewhere").state == "done"
