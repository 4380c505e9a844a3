"""Parts of a queue on several machines: each song once, together what the whole queue gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Capture, cli, refused
from hypothesis import given
from hypothesis import strategies as st

from yuegguf.cli._queue_part import Part, locked_queue
from yuegguf.errors import FolderBusy

SONGS = """
defaults: {segment-seconds: 1, model: nano, threads: 1, retries: 0, draft: true, output-dir: OUT}
songs:
  - {name: first, genre: pop, lyrics: "[verse]\\nla", seed: 1}
  - {name: second, genre: folk, lyrics: "[verse]\\nlo", seed: 2}
  - {name: third, genre: rock, lyrics: "[verse]\\nli", seed: 3}
"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    file = tmp_path / "songs.yaml"
    file.write_text(SONGS.replace("OUT", str(tmp_path / "out")))
    return file


@given(st.integers(1, 40), st.integers(0, 100))
def test_the_parts_are_the_whole(count: int, songs: int) -> None:
    items = list(range(songs))
    parts = [Part(index, count).of(items) for index in range(count)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_parts_generate_each_song_once_and_the_whole_queue_finds_them(
    queue: Path, tmp_path: Path, capsys: Capture
) -> None:
    first = cli(capsys, "run", "--queue", queue, "--part", "0/2", "--json").json["songs"]
    assert [(row["song"], row["name"]) for row in first] == [(1, "first"), (3, "third")]
    second = cli(capsys, "run", "--queue", queue, "--part", "1/2", "--json").json["songs"]
    assert [(row["song"], row["name"]) for row in second] == [(2, "second")]
    whole = cli(capsys, "run", "--queue", queue, "--json").json["songs"]
    assert whole == [first[0], second[0], first[1]]
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert cli(capsys, "run", "--queue", queue, "--part", "0/2", "--json").json["songs"] == first
    notes = sorted(path.name for path in tmp_path.glob("songs.yaml.*"))
    assert notes == ["songs.yaml.0-of-2.state.json", "songs.yaml.1-of-2.state.json"]


def test_notes_of_a_part_that_lead_elsewhere_are_refused(
    queue: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "songs.yaml.1-of-2.state.json").write_text(json.dumps({"x": "../canary"}))
    assert "which is elsewhere" in refused(capsys, 7, "run", "--queue", queue, "--part", "0/2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", [None, Part(0, 3), Part(1, 2)])
def test_whole_queues_and_other_divisions_exclude_each_other(queue: Path, other: Part | None) -> None:
    with locked_queue(queue, Part(1, 2)):
        with locked_queue(queue, Part(0, 2)):
            pass
        with pytest.raises(FolderBusy, match=r"songs\.yaml is being worked on"), locked_queue(queue, other):
            pass
    with locked_queue(queue, other):
        pass


def test_a_part_waits_for_the_whole_queue(queue: Path) -> None:
    with (
        locked_queue(queue, None),
        pytest.raises(FolderBusy, match=r"songs\.yaml is being worked on"),
        locked_queue(queue, Part(0, 2)),
    ):
        pass


@pytest.mark.parametrize("text", ["2/2", "-1/2", "0/0", "1", "a/b", "0/1001", "0/2/3", "", "٠/٢"])
def test_what_is_no_part_is_refused(text: str, queue: Path, capsys: Capture) -> None:
    said = cli(capsys, "run", "--queue", queue, f"--part={text}")
    assert said.code == 2
    assert "is no part such as 0/8" in said.err


def test_a_part_belongs_to_a_queue(capsys: Capture) -> None:
    assert "--part belongs to --queue" in refused(capsys, 2, "run", "--example", "--part", "0/2")
