"""Song folders that somebody else wrote: nothing in one leads out of it or ends in a traceback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import Capture, cli, edit_song, new_song, refused
from song_examples import RENDERED, all_content, finished_song

from yuegguf.errors import DamagedFile
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.guard import FILE_NAMES, FOLDER_NAMES
from yuegguf.song.kept_part import read_kept_part
from yuegguf.song.library import list_songs, summarise

COMMANDS = (
    ("resume",),
    ("refine",),
    ("render", "--no-stems", "--force"),
    ("bundle", "--force"),
    ("export", "--force"),
    ("decode", "--force"),
    ("plot", "--force"),
    ("extend",),
)
"""Every command that works on a song folder."""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder of the user's, beside the song, that nothing may touch."""
    folder = tmp_path / "mine"
    (folder / "deep" / "deeper").mkdir(parents=True)
    for name in ("canary", "deep/row0.bin", "deep/deeper/x.npz", "mix.wav"):
        (folder / name).write_text("mine")
    return folder


def refused_by_all(capsys: Capture, song: Path, *watched: Path) -> None:
    """Assert that every command refuses the song with exit code 7 and changes nothing."""
    before = [all_content(folder) for folder in (song, *watched)]
    for command, *options in COMMANDS:
        said = refused(capsys, 7, command, song, *options)
        assert "unexpected" not in said
        assert [all_content(folder) for folder in (song, *watched)] == before, command


@pytest.mark.parametrize("field", ["files", "draft_files", "older_files"])
@pytest.mark.parametrize(
    "name",
    [
        "{canary}",
        "../mine/canary",
        "song.json",
        "sub/mix.wav",
        "",
        ".",
        "..",
        "mix.wav\0",
        "MIX.WAV",
        "x" * 5000,
    ],
)
def test_a_file_of_another_name_is_never_packed_or_deleted(
    field: str, name: str, canary: Path, tmp_path: Path, capsys: Capture
) -> None:
    song = finished_song(tmp_path)
    edit_song(song, **{field: ["mix.wav", name.format(canary=canary / "canary")]})
    refused_by_all(capsys, song, canary)


@pytest.mark.parametrize("name", sorted(FILE_NAMES - {"draft.mp3", "draft.flac"}))
def test_a_file_that_is_a_link_out_of_the_folder_is_refused(
    name: str, canary: Path, tmp_path: Path, capsys: Capture
) -> None:
    song = finished_song(tmp_path)
    if name == "song.json":
        shutil.move(song / name, canary / name)
    (song / name).unlink(missing_ok=True)
    (song / name).symlink_to(canary / ("song.json" if name == "song.json" else "canary"))
    refused_by_all(capsys, song, canary)


@pytest.mark.parametrize("name", sorted(FOLDER_NAMES))
@pytest.mark.parametrize("inside", ["", "1-2", "1-2/row0.bin", "stage1"])
def test_a_folder_that_leads_out_is_refused(
    name: str, inside: str, canary: Path, tmp_path: Path, capsys: Capture
) -> None:
    song = finished_song(tmp_path)
    link = song / name / inside
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(canary / "deep")
    refused_by_all(capsys, song, canary)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)])
@pytest.mark.parametrize("name", ["tokens.log", "stage2.npz", "mix.wav", "preview.wav", ".lock"])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(
    name: str, make: Callable[[Path], None], tmp_path: Path, capsys: Capture
) -> None:
    song = finished_song(tmp_path)
    (song / name).unlink(missing_ok=True)
    make(song / name)
    refused_by_all(capsys, song)


def test_a_link_inside_the_folder_may_stay(tmp_path: Path) -> None:
    song = finished_song(tmp_path)
    (song / "mix.wav").rename(song / "other.wav")
    (song / "mix.wav").symlink_to("other.wav")
    assert SongFolder.open(song).state == "done"


WRONG: dict[str, tuple[object, ...]] = {
    "format": (None, "1", 1.5, [], 0, -1),
    "state": ("", "over", None, 3),
    "request": (None, [], {}, {"genre": "pop"}),
    "title": (None, 3, []),
    "family": (None, 3),
    "models": (
        None,
        [],
        {"stage3": {"file": "/a", "bytes": 1, "fingerprint": "x"}},
        {"codec": {"file": "/a", "bytes": -1, "fingerprint": "x"}},
        {"codec": {"file": "", "bytes": 1, "fingerprint": "x"}},
        {"codec": {"file": "a\0b", "bytes": 1, "fingerprint": "x"}},
        {"codec": {"file": "/a", "bytes": 1}},
        {"codec": {"file": ["/a"], "bytes": 1, "fingerprint": "x"}},
    ),
    "loras": ({}, [1], [{"file": "/a", "bytes": 1, "fingerprint": "x", "scale": "1"}]),
    "plan": ({}, 7, {"n_ctx": 10**30}),
    "early": (None, {"draft": "song"}, {"preview_seconds": -3}),
    "from": ({"folder": 1, "seed": 1}, {"folder": "x"}),
    "imported": ({"tool": "x"}, []),
    "seconds": ([], {"draft": -1}, {"draft": "1"}, {"singing": 1}, {"draft": True}),
    "silence": (-1, 1024, 1.5, "1"),
    "faults": ([], {"0": "x"}, {"-1": "x"}, {"x": "x"}, {"1": 2}, {"1" * 9: "x"}),
    "files": (None, {}, "mix.wav", [1], [None], ["vocals.wav"]),
    "draft_files": (["draft-vocals.wav"],),
    "sections": ({}, [1], [{"label": "a"}], [{"label": 1, "start": 0, "seconds": 1, "complete": True}]),
    "more": (1,),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in WRONG for value in WRONG[field]])
def test_every_field_has_one_type_and_a_range(field: str, value: object, tmp_path: Path) -> None:
    song = finished_song(tmp_path)
    edit_song(song, **{field: value})
    before = all_content(song)
    with pytest.raises(DamagedFile):
        SongFolder.open(song)
    assert all_content(song) == before


REQUESTS: tuple[dict[str, object], ...] = (
    {"genre": 1},
    {"genre": ""},
    {"lyrics": None},
    {"seed": -1},
    {"seed": 2**70},
    {"seed": True},
    {"take": -1},
    {"retries": 1000},
    {"segment_seconds": 1e9},
    {"sampling": {"top_k": "50"}},
    {"sampling": {"temperature": -1}},
    {"output": {"formats": ["exe"]}},
    {"output": {"formats": "wav"}},
    {"output": {"bits": 8}},
    {"reference": {}},
    {"reference": {"mix": "a", "start": 5, "end": 1}},
    {"track": {"track": "drums"}},
    {"track": {"track": "vocal", "offset": -1}},
    {"more": 1},
)


@pytest.mark.parametrize("change", REQUESTS)
def test_every_field_of_the_request_has_one_too(change: dict[str, object], tmp_path: Path) -> None:
    song = finished_song(tmp_path)
    request = json.loads((song / "song.json").read_text())["request"]
    edit_song(song, request={**request, **change})
    with pytest.raises(DamagedFile):
        SongFolder.open(song)


def test_a_changed_digit_in_song_json_is_found(tmp_path: Path) -> None:
    """As the seed: another one gives another song without a word."""
    song = finished_song(tmp_path)
    file = song / "song.json"
    text = file.read_text()
    assert '"seed": 5' in text
    file.write_text(text.replace('"seed": 5', '"seed": 4'))
    with pytest.raises(DamagedFile, match="does not match its checksum"):
        SongFolder.open(song)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff\xfe", b"", b"null", b"1", b'"\\ud800"', b"{}" * 9]
)
def test_no_content_of_song_json_is_a_traceback(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    song = finished_song(tmp_path)
    (song / "song.json").write_bytes(content)
    refused_by_all(capsys, song)


def test_a_take_that_is_a_link_is_neither_worked_on_nor_deleted(
    canary: Path, tmp_path: Path, capsys: Capture
) -> None:
    takes, other = tmp_path / "takes", finished_song(tmp_path / "elsewhere")
    takes.mkdir()
    shutil.copytree(other, takes / "take-1")
    (takes / "take-2").symlink_to(other)
    before = all_content(tmp_path)
    for line in (("takes", "keep", takes, 1, "--delete-others"), ("takes", "list", takes), ("resume", takes)):
        assert "is a link to another folder" in refused(capsys, 7, *line)
        assert all_content(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("codes", np.zeros((2, 8, 3), np.float32)),
        ("codes", np.full((2, 8, 3), 1024)),
        ("codes", np.zeros((1, 8, 3), np.int16)),
        ("codes", np.zeros(0, np.int16)),
        ("other", np.zeros((2, 8, 3), np.int16)),
    ],
)
def test_arrays_of_another_shape_are_refused(name: str, array: np.ndarray, tmp_path: Path) -> None:
    song = SongFolder.open(finished_song(tmp_path))
    np.savez(song.path / "stage2.npz", **{name: array})
    with pytest.raises(DamagedFile):
        song.load_stage2()


@pytest.mark.parametrize("frames", [[-5, 105], [100, 1], [50.0, 50.0], [[100]], [2**62, 2**62]])
def test_frames_that_do_not_add_up_are_refused(frames: list[object], tmp_path: Path) -> None:
    song = new_song(tmp_path)
    np.savez(song.path / "stage1.npz", codes=np.zeros((2, 100), np.int16), frames=np.array(frames))
    with pytest.raises(DamagedFile, match="do not add up"):
        song.load_stage1()


EMPTY = {
    "given": np.array([0, 0]),
    "frames": np.zeros(0, np.int64),
    "before": np.zeros((2, 1, 0), np.int16),
    "after_frames": np.zeros(0, np.int64),
    "after": np.zeros((2, 1, 0), np.int16),
}
"""base.npz of a song that keeps nothing of the earlier one."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", [np.nan]),
        ("frames", 0),
        ("frames", [5, -5]),
        ("frames", [[0]]),
        ("after_frames", [0.0]),
        ("after_frames", [7]),
        ("given", 0),
        ("given", [0]),
        ("given", [0, 0, 0]),
        ("given", [0.0, 0.0]),
        ("given", [-1, -7]),
        ("given", [1, 0]),
        ("before", 3),
        ("after", [np.nan]),
    ],
)
def test_a_kept_part_of_another_shape_or_sign_is_refused(name: str, value: object, tmp_path: Path) -> None:
    song = new_song(tmp_path)
    np.savez(song.path / "base.npz", **EMPTY)
    assert read_kept_part(song.path) is not None
    np.savez(song.path / "base.npz", **{**EMPTY, name: np.array(value)})
    with pytest.raises(DamagedFile):
        read_kept_part(song.path)


def test_a_song_of_unreadable_lyrics_does_not_hide_the_others(tmp_path: Path) -> None:
    new_song(tmp_path, SongRequest("pop", "   "))
    new_song(tmp_path)
    found = sorted((song.state, song.problem) for song in list_songs(tmp_path))
    assert found == [("damaged", "the lyrics are empty"), ("draft", "")]


@pytest.mark.parametrize("frames", [[-5, 105], [50.0, 50.0], [[100]], [2**62, 2**62]])
def test_a_listed_song_has_possible_frames(
    frames: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its codes are not read for them."""
    song = SongFolder.open(finished_song(tmp_path))
    monkeypatch.delattr(SongFolder, "load_stage1")
    codes = np.zeros((2, 100), np.int16)
    np.savez(song.path / "stage1.npz", codes=codes, frames=np.array(frames))
    assert summarise(song.path).state == "damaged"
    np.savez(song.path / "stage1.npz", codes=codes, frames=np.array([40, 60]))
    assert summarise(song.path).seconds == 2.0


def test_a_finished_song_is_untouched_by_what_only_reads(tmp_path: Path, capsys: Capture) -> None:
    """Not even a lock file stays."""
    song = finished_song(tmp_path)
    before = all_content(song)
    assert cli(capsys, "resume", song).code == 0
    assert cli(capsys, "bundle", song, "-o", tmp_path / "song.zip").code == 0
    assert cli(capsys, "export", song, "-o", tmp_path / "out").code == 0
    assert all_content(song) == before
    assert set(RENDERED) <= set(before)
