"""`run --queue --plan` and `--dry-run`: the forecast of each song and their sum, and nothing generated."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Capture, cli, ended, refused

SONGS = """
defaults: {segment-seconds: 1, model: nano, threads: 1, retries: 0, output-dir: OUT}
songs:
  - {name: first, genre: pop, lyrics: "[verse]\\nla", seed: 1, draft: true}
  - {name: second, genre: folk, lyrics: "[verse]\\nlo\\n[chorus]\\nlo", seed: 2}
  - {genre: rock, lyrics: "[verse]\\nli", seed: 3}
"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    file = tmp_path / "songs.yaml"
    file.write_text(SONGS.replace("OUT", str(tmp_path / "out")))
    return file


def test_a_plan_shows_each_song_and_the_sum_and_generates_nothing(queue: Path, capsys: Capture) -> None:
    found = cli(capsys, "run", "--queue", queue, "--plan", "--json")
    assert found.code == 0
    rows = found.json["songs"]
    assert [(row["song"], row["name"], row["music"]) for row in rows] == [
        (1, "first", 1.0),
        (2, "second", 2.0),
        (3, None, 1.0),
    ]
    assert (found.json["left"], found.json["music"]) == (3, 4.0)
    for number, total in enumerate(found.json["total"]):
        assert total == pytest.approx(sum(row["total"][number] for row in rows), abs=0.2)
    assert not any("sections" in row for row in rows)
    said = cli(capsys, "run", "--queue", queue, "--plan").out
    assert [line for line in said.splitlines() if line.startswith("song ")] == [
        "song 1 (first)",
        "song 2 (second)",
        "song 3 (rock)",
    ]
    assert said.count("  in all       about ") == 3
    assert "3 songs left, one after the other: about " in said.splitlines()[-1]
    assert [path.name for path in queue.parent.iterdir()] == ["songs.yaml"]


def test_a_dry_run_adds_sections_and_disk(queue: Path, capsys: Capture) -> None:
    found = cli(capsys, "run", "--queue", queue, "--dry-run", "--json").json
    labels = [[section["label"] for section in row["sections"]] for row in found["songs"]]
    assert labels == [["verse"], ["verse", "chorus"], ["verse"]]
    assert found["disk"] == sum(row["disk"] for row in found["songs"]) > 0
    said = cli(capsys, "run", "--queue", queue, "--dry-run").out.splitlines()
    assert "section 2    [chorus] at most 1 s" in "\n".join(said)
    assert said[-1].startswith("disk: ")
    assert said[-1].endswith(f" free in {queue.parent / 'out'}")
    assert [path.name for path in queue.parent.iterdir()] == ["songs.yaml"]


def test_songs_that_are_done_are_left_out_and_a_part_has_its_own(queue: Path, capsys: Capture) -> None:
    done = ended(cli(capsys, "run", "--queue", queue, "--part", "0/2", "--json")).json["songs"]
    before = sorted(path.name for path in queue.parent.rglob("*"))
    found = cli(capsys, "run", "--queue", queue, "--plan", "--json").json
    assert [row.get("folder") for row in found["songs"]] == [done[0]["folder"], None, done[1]["folder"]]
    assert (found["left"], found["music"]) == (1, 2.0)
    part = cli(capsys, "run", "--queue", queue, "--part", "1/2", "--plan", "--json").json
    assert [row["song"] for row in part["songs"]] == [2]
    assert (
        f"song 1 (first) is done: {done[0]['folder']}" in cli(capsys, "run", "--queue", queue, "--plan").out
    )
    assert sorted(path.name for path in queue.parent.rglob("*")) == before


def test_a_song_that_cannot_be_forecast_is_named(
    queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf.errors import NotEnoughMemory
    from yuegguf.measure import forecast

    def refuse(job: object) -> None:
        raise NotEnoughMemory("too much memory is needed", "use a smaller model")

    monkeypatch.setattr(forecast, "forecast", refuse)
    said = refused(capsys, NotEnoughMemory.exit_code, "run", "--queue", queue, "--plan")
    assert said.startswith("song 1 (first): too much memory is needed; ")
