"""A queue finds the songs that it made, however its path is written, and makes deleted ones anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Capture, cli, ended, refused

from yuegguf.cli import _queue
from yuegguf.cli._console import Console
from yuegguf.cli.run import run

SONGS = """
defaults: {segment-seconds: 1, model: nano, threads: 1, retries: 0, draft: true, output-dir: OUT}
songs:
  - {name: first, genre: pop, lyrics-txt: words.txt, seed: 1}
  - {name: second, genre: pop, lyrics-txt: words.txt, seed: 2, candidates: 2}
  - {name: first, genre: pop, lyrics-txt: words.txt, seed: 1}
"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "words.txt").write_text("[verse]\nla\n")
    file = folder / "songs.yaml"
    file.write_text(SONGS.replace("OUT", str(tmp_path / "out")))
    return file


def songs_of(capsys: Capture, queue: object) -> list[Path]:
    """The folders of the queue's songs, once it was run."""
    found = ended(cli(capsys, "run", "--queue", queue, "--json")).json["songs"]
    return [Path(song["folder"]) for song in found]


def test_a_queue_by_another_spelling_of_its_path_is_the_same(
    queue: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(queue.parent)
    made = songs_of(capsys, "songs.yaml")
    monkeypatch.chdir(tmp_path)
    assert songs_of(capsys, "album/songs.yaml") == made
    assert songs_of(capsys, queue) == made
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_notes_of_earlier_versions_are_found_and_brought_up_to_date(
    queue: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = songs_of(capsys, queue)
    older = [entry.older_key for entry in _queue.read_queue(Console(), run, queue)]
    notes = queue.with_name("songs.yaml.state.json")
    assert not set(older) & json.loads(notes.read_text()).keys()
    notes.write_text(json.dumps({key: folder.name for key, folder in zip(older, made, strict=True)}))
    assert songs_of(capsys, queue) == made
    monkeypatch.chdir(tmp_path)
    assert songs_of(capsys, "album/songs.yaml") == made


@pytest.mark.parametrize("emptied", [False, True])
def test_a_song_whose_takes_were_deleted_one_by_one_is_made_anew(
    queue: Path, capsys: Capture, emptied: bool
) -> None:
    first, second, third = songs_of(capsys, queue)
    ended(cli(capsys, "songs", "rm", second / "take-1", second / "take-2"))
    assert not second.exists()
    if emptied:  # as earlier versions, and other programs, leave it
        second.mkdir()
    assert "1 song left" in ended(cli(capsys, "run", "--queue", queue, "--plan")).out
    again = songs_of(capsys, queue)
    assert (again[0], again[2]) == (first, third)
    assert again[1] != second
    assert sorted(path.name for path in again[1].iterdir()) == ["take-1", "take-2"]


def test_a_folder_that_holds_more_than_its_deleted_takes_stays(
    queue: Path, tmp_path: Path, capsys: Capture
) -> None:
    first, second, third = songs_of(capsys, queue)
    (second / "notes.txt").write_text("mine")
    ended(cli(capsys, "songs", "rm", second / "take-1", second / "take-2"))
    assert [path.name for path in second.iterdir()] == ["notes.txt"]
    assert "is not a song folder" in refused(capsys, 5, "songs", "rm", second)
    (second / "notes.txt").unlink()
    second.rmdir()
    last = third.with_name("take-123456")  # the name of a song called "take"
    third.rename(last)
    ended(cli(capsys, "songs", "rm", first, last))
    assert not list((tmp_path / "out").iterdir())
