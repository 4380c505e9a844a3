"""Damaged songs: refused and left as they are, and made again from what is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import QUICK as FAST
from helpers import TEXT, Capture, cli, edit_song, ended, refused, song_bytes

SONG = (*TEXT, *FAST, "--model", "nano")
pytestmark = pytest.mark.usefixtures("no_models")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def taken_back(song: Path, parent: Path, state: str) -> Path:
    """A copy of a finished song that has this phase still to do."""
    folder = parent / "copy"
    shutil.copytree(song, folder)
    edit_song(folder, state=state)
    gone = {"draft": ("stage1.npz", "stage2.npz"), "refine": ("stage2.npz",), "master": (), "done": ()}[state]
    for name in gone:
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize(
    ("state", "name", "spoil"),
    [
        ("draft", "song.json", lambda b: b[:100]),
        ("draft", "song.json", lambda b: b"\xff\xfe"),
        ("draft", "song.json", lambda b: b'{"format": 2}'),
        ("draft", "song.json", lambda b: b.replace(b'"plan": {', b'"plan": {"more": 1, ')),
        ("draft", "song.json", lambda b: b.replace(b'"models"', b'"mottles"')),
        ("draft", "tokens.log", lambda b: b.replace(b"section 1", b"section 7")),
        ("draft", "tokens.log", lambda b: b"rubbish\n" + b),
        ("refine", "stage1.npz", lambda b: b[:-30]),
        ("refine", "stage1.npz", lambda b: b"rubbish"),
        ("master", "stage2.npz", lambda b: b[: len(b) // 2]),
        ("master", "stage2.npz", lambda b: b""),
        ("done", "stage1.npz", lambda b: b[:-30]),
    ],
)
def test_a_damaged_song_is_refused_and_left_as_it_is(
    state: str, name: str, spoil: Callable[[bytes], bytes], song: Path, capsys: Capture, tmp_path: Path
) -> None:
    folder = taken_back(song, tmp_path, state)
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(spoil(file.read_bytes() if file.exists() else b""))
    before = content(folder)
    said = refused(capsys, 7, "resume", folder, "--threads", 1)
    assert content(folder) == before
    if spoil(b"") == b'{"format": 2}':
        assert said == f"{folder} was made by a newer yuegguf; update yuegguf to open it"


@pytest.mark.parametrize(
    ("state", "name"),
    [("refine", "stage1.npz"), ("master", "stage2.npz"), ("done", "stage1.npz"), ("done", "stage2.npz")],
)
def test_what_a_damaged_file_held_is_made_again_once_it_is_deleted(
    state: str, name: str, song: Path, capsys: Capture, tmp_path: Path
) -> None:
    """As the sentence promises: the log holds every draw, so nothing is drawn anew."""
    folder = taken_back(song, tmp_path, state)
    (folder / name).write_bytes(b"rubbish")
    if (state, name) != ("done", "stage2.npz"):  # a finished song does not look into its codes
        assert "; delete it and resume to make it again" in refused(capsys, 7, "resume", folder)
    (folder / name).unlink()
    ended(cli(capsys, "resume", folder, "--threads", 1))
    assert song_bytes(folder) == song_bytes(song)


def test_damaged_codes_are_refused(capsys: Capture, song: Path, tmp_path: Path) -> None:
    folder = taken_back(song, tmp_path, "done")
    (folder / "stage2.npz").write_bytes(b"rubbish")
    before = content(folder)
    refused(capsys, 7, "decode", folder, "-o", tmp_path / "out")
    assert content(folder) == before
    (tmp_path / "a_vtrack.npy").write_bytes(b"rubbish\1")
    np.save(tmp_path / "a_itrack.npy", np.zeros((8, 5), np.int16))
    said = refused(capsys, 7, "decode", tmp_path / "a_vtrack.npy", tmp_path / "a_itrack.npy")
    assert said.startswith(f"{tmp_path / 'a_vtrack.npy'} is not a readable .npy file (")
