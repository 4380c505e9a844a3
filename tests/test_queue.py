"""Many songs: all checked before the first, none stopped by another's failure, gone on with later."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from helpers import Capture, cli, refused

from yuegguf.cli._queue import clock
from yuegguf.errors import EngineError, RequestError

SONGS = """
defaults: {segment-seconds: 1.5, model: nano, threads: 1, stage2-batch: 2, output-dir: OUT, retries: 0}
songs:
  - {name: first, genre: female pop, lyrics: "[verse]\\nla la", seed: 7}
  - {name: second, genre: male folk, lyrics-txt: words.txt, seed: 8, format: [flac], stems: false}
  - {name: third, genre: rock, lyrics: "[verse]\\nla", seed: 9, draft: true}
"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    (tmp_path / "words.txt").write_text("[chorus]\nlo lo\n")
    file = tmp_path / "songs.yaml"
    file.write_text(SONGS.replace("stems: false", "no-stems: true").replace("OUT", str(tmp_path / "out")))
    return file


def test_every_song_is_sung_as_it_is_asked(queue: Path, tmp_path: Path, capsys: Capture) -> None:
    found = cli(capsys, "run", "--queue", queue, "--json").json["songs"]
    assert [song["name"] for song in found] == ["first", "second", "third"]
    assert [[Path(file).name for file in song["files"]] for song in found] == [
        ["mix.wav", "vocals.wav", "instrumental.wav"],
        ["mix.flac"],
        ["draft.wav"],
    ]
    facts = json.loads((Path(found[1]["folder"]) / "song.json").read_text("utf-8"))
    assert facts["request"]["lyrics"] == "[chorus]\nlo lo\n"
    assert facts["request"]["seed"] == 8


def test_the_same_command_sings_nothing_twice(queue: Path, tmp_path: Path, capsys: Capture) -> None:
    first = cli(capsys, "run", "--queue", queue, "--json").json["songs"]
    assert cli(capsys, "run", "--queue", queue, "--json").json["songs"] == first
    assert len(list((tmp_path / "out").iterdir())) == 3
    queue.write_text(queue.read_text().replace("seed: 8", "seed: 80"))
    again = cli(capsys, "run", "--queue", queue, "--json").json["songs"]
    assert [a["folder"] == b["folder"] for a, b in zip(first, again, strict=True)] == [True, False, True]


def test_one_failure_does_not_stop_the_others(
    queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf import pipeline

    real = pipeline.work

    def failing(folder: object, *args: object) -> object:
        if "second" in folder.path.name:  # type: ignore[attr-defined]
            raise EngineError("llama.cpp stumbled")
        return real(folder, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "work", failing)
    result = cli(capsys, "run", "--queue", queue)
    assert result.code == 1
    assert "song 2 (second) failed: llama.cpp stumbled" in result.err
    assert "1 of 3 songs failed; run the same command to try again" in result.err
    told = cli(capsys, "run", "--queue", queue, "--json")  # one JSON object, and the code
    assert told.code == 1
    assert [song.get("error", {}).get("message") for song in told.json["songs"]] == [
        None,
        "llama.cpp stumbled",
        None,
    ]
    monkeypatch.setattr(pipeline, "work", real)
    assert cli(capsys, "run", "--queue", queue).code == 0


def test_an_interrupted_queue_goes_on_in_the_same_folder(
    queue: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf import stages
    from yuegguf.errors import Interrupted
    from yuegguf.stages import stage2

    real = stage2.run

    def stopped(*args: object, **more: object) -> object:
        raise Interrupted("stopped")

    monkeypatch.setattr(stages.stage2, "run", stopped)
    result = cli(capsys, "run", "--queue", queue)
    assert result.code == 75
    assert f"go on with: yuegguf run --queue {queue}" in result.error
    monkeypatch.setattr(stages.stage2, "run", real)
    before = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(before) == 1
    assert cli(capsys, "run", "--queue", queue).code == 0
    assert before < {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("genre: rock", "genre: ''"), "songs.yaml, line 6, song 3: the genre tags are empty"),
        (
            ("words.txt", "nowhere.txt"),
            "line 5, song 2: the lyrics file .*nowhere.txt cannot be read",
        ),
        (("seed: 9", "tempo: 9"), "line 6, song 3: there is no option 'tempo'"),
        (("seed: 9", "queue: x"), "line 6, song 3: there is no option 'queue'"),
        (("draft: true", "draft: maybe"), "line 6, song 3: draft is true or false"),
        (("seed: 9", "seed: nine"), "line 6, song 3: .*nine"),
        (("model: nano", "model: xyz"), "line 4, song 1: "),
        (("songs:", "tunes:"), "holds no list of songs"),
        (("songs:", "songs: ["), "is not YAML"),
    ],
)
def test_a_bad_song_is_named_before_the_first_note(
    change: tuple[str, str], message: str, queue: Path, tmp_path: Path, capsys: Capture
) -> None:
    import re

    queue.write_text(queue.read_text().replace(*change))
    result = cli(capsys, "run", "--queue", queue)
    assert result.code in (3, 5)
    assert re.search(message, result.error)
    assert not (tmp_path / "out").exists()


def test_a_queue_with_a_section_that_stays_wrong_exits_6(
    queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf import drafting

    monkeypatch.setattr(drafting, "judge_of", lambda *_song: lambda *_heard: "it hums")
    queue.write_text(queue.read_text().replace("retries: 0", "retries: 1"))
    result = cli(capsys, "run", "--queue", queue)
    assert result.code == 6
    assert result.err.count("section 1: it hums; sing it again with: yuegguf extend") == 3


def test_options_beside_a_queue_are_refused(queue: Path, capsys: Capture) -> None:
    assert "--seed belongs into the queue's file" in refused(capsys, 2, "run", "--queue", queue, "--seed", 3)
    assert "cannot be read" in refused(capsys, 5, "run", "--queue", queue.with_name("no.yaml"))


def test_the_next_time_that_a_clock_shows() -> None:
    now = datetime.datetime(2026, 1, 31, 22, 30)
    assert clock("23:00", now) == datetime.datetime(2026, 1, 31, 23, 0)
    assert clock("07:15", now) == datetime.datetime(2026, 2, 1, 7, 15)
    assert clock("22:30", now) == datetime.datetime(2026, 2, 1, 22, 30)
    with pytest.raises(RequestError, match="is no time; write it as 07:30"):
        clock("25:00", now)


def test_a_queue_stops_at_its_time(queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from yuegguf.cli import _queue

    monkeypatch.setattr(_queue, "clock", lambda text, now: now + datetime.timedelta(milliseconds=1))
    result = cli(capsys, "run", "--queue", queue, "--stop-at", "07:30")
    assert result.code == 75
    assert "stopped at 07:30" in result.error
