"""Many songs: all checked before the first, none stopped by another's failure, gone on with later."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import Capture, cli, ended, refused

from yuegguf.cli import _queue_run
from yuegguf.errors import EngineError
from yuegguf.pipeline import create, takes
from yuegguf.pipeline.song_job import SongJob
from yuegguf.song.folder import SongFolder
from yuegguf.stages.faults import Fault

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


def test_every_song_is_generated_as_it_is_requested(queue: Path, tmp_path: Path, capsys: Capture) -> None:
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


def test_the_same_command_generates_nothing_twice(queue: Path, tmp_path: Path, capsys: Capture) -> None:
    first = cli(capsys, "run", "--queue", queue, "--json").json["songs"]
    assert cli(capsys, "run", "--queue", queue, "--json").json["songs"] == first
    assert len(list((tmp_path / "out").iterdir())) == 3
    queue.write_text(queue.read_text().replace("seed: 8", "seed: 80"))
    again = cli(capsys, "run", "--queue", queue, "--json").json["songs"]
    assert [a["folder"] == b["folder"] for a, b in zip(first, again, strict=True)] == [True, False, True]


def test_one_failure_does_not_stop_the_others(
    queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        fail_at(patched, "encode_inputs", "second")
        check_second_failed(queue, capsys)
    ended(cli(capsys, "run", "--queue", queue))


def fail_at(monkeypatch: pytest.MonkeyPatch, step: str, name: str) -> None:
    """Let a step of the phases fail for the song whose folder has this name."""
    from yuegguf.pipeline import phases

    real = getattr(phases, step)

    def failing(folder: SongFolder, *rest: object) -> object:
        if name in folder.path.name:
            raise EngineError("llama.cpp stumbled")
        return real(folder, *rest)

    monkeypatch.setattr(phases, step, failing)


def check_second_failed(queue: Path, capsys: Capture) -> None:
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


def test_an_interrupted_queue_goes_on_in_the_same_folder(
    queue: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf.errors import Interrupted
    from yuegguf.pipeline import phases

    real = phases.refining

    def stopped(*args: object, **more: object) -> object:
        raise Interrupted("stopped")

    monkeypatch.setattr(phases, "refining", stopped)
    result = cli(capsys, "run", "--queue", queue)
    assert result.code == 75
    assert f"go on with: yuegguf run --queue {queue}" in result.error
    monkeypatch.setattr(phases, "refining", real)
    before = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(before) == 1
    ended(cli(capsys, "run", "--queue", queue))
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
        (("songs:", "tunes:"), "there is no 'tunes' in a queue"),
        (("songs:", "songs: ["), "is not YAML"),
        (("seed: 9", "seed: 9, seed: 9"), "line 6, song 3: 'seed' is there twice"),
        (("seed: 9", "Seed: 9"), "line 6, song 3: there is no option 'Seed'"),
        (
            ("seed: 9", "lyrics_txt: a, lyrics-txt: a"),
            "line 6, song 3: lyrics-txt and lyrics-txt are one option",
        ),
        (("seed: 9", "model: nano, stage1-model: nano"), "song 3: model and stage1-model are one option"),
        (("seed: 9", "1: 9"), "line 6, song 3: there is no option '1'"),
        (("seed: 9", "[a, b]: 9"), "line 6, song 3: the key on line 6 is not a name"),
        (("seed: 9", "null: 9"), "line 6, song 3: the key on line 6 is not a name"),
        (("seed: 9", "seed: [9, 10]"), "line 6, song 3: seed has one value, not a list"),
        (("seed: 9", "seed: 1:30"), "line 6, song 3: .*1:30"),
        (("seed: 9", "seed: {a: 9}"), "line 6, song 3: seed is neither a text nor a list of texts"),
        (("seed: 9", "lora: [[a]]"), "line 6, song 3: lora is a list of something else than texts"),
        (("seed: 9", "seed: !!python/name:os.system ''"), "line 6, song 3: seed is neither a text"),
        (("seed: 9", 'title: "\\ud800"'), "line 6, song 3: title is not text"),
        (("seed: 9", "json: true"), "line 6, song 3: there is no option 'json'"),
        (("{segment", "{tempo: 3, segment"), "line 4, song 1: there is no option 'tempo'"),
        (("{segment", "{segment-seconds: 1, segment"), "defaults: 'segment-seconds' is there twice"),
        (("{name: third, ", "text"), "is not YAML for a queue"),
        (("genre: rock", "genre: &a rock, name: *a"), "aliases are not read; use defaults"),
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
    from yuegguf.pipeline import draft_phase

    hum = Fault("collapse", "it hums", 50)
    monkeypatch.setattr(draft_phase, "fault_check", lambda *_song: lambda *_codes: hum)
    queue.write_text(queue.read_text().replace("retries: 0", "retries: 1"))
    result = cli(capsys, "run", "--queue", queue)
    assert result.code == 6
    assert result.err.count("section 1: it hums; generate it again with: yuegguf extend") == 3


# What was begun, with jobs that begin nothing


@dataclass
class Begun:
    path: Path


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of songs that are begun, each a folder with one file; nothing is drawn."""
    made: list[str] = []

    def start(job: SongJob, named: Callable[[Path], None]) -> list[Begun]:
        folder = job.parent / f"{job.name}-{len(made)}"
        named(folder)
        folder.mkdir(parents=True)
        (folder / "song.json").touch()
        made.append(str(job.name))
        return [Begun(folder)]

    monkeypatch.setattr(takes, "start", start)
    monkeypatch.setattr(create, "new_record", lambda job: None)
    monkeypatch.setattr(_queue_run, "song_folders", lambda *_args: [])
    return made


def test_a_song_whose_texts_were_edited_is_another_song(
    queue: Path, begun: list[str], tmp_path: Path, capsys: Capture
) -> None:
    for _ in range(2):
        assert cli(capsys, "run", "--queue", queue).code == 0
    assert begun == ["first", "second", "third"]
    (tmp_path / "words.txt").write_text("[chorus]\nother words\n")
    assert cli(capsys, "run", "--queue", queue).code == 0
    assert begun == ["first", "second", "third", "second"]


def test_a_song_whose_reference_was_replaced_is_another_song(
    queue: Path, begun: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuegguf.pipeline.create.reference_notices", lambda *_: [])
    recording = tmp_path / "a.wav"
    queue.write_text(queue.read_text().replace("seed: 7", "seed: 7, ref: a.wav"))
    for content in (b"one", b"one", b"two"):
        recording.write_bytes(content)
        result = cli(capsys, "run", "--queue", queue)
        assert result.code == 0, result.err
    assert begun == ["first", "second", "third", "first"]


@pytest.mark.parametrize(
    "state",
    [
        '{"KEY": "/canary"}', '{"KEY": "../canary"}', '{"KEY": ".."}', '{"KEY": "a/b"}', '{"KEY": 7}',
        '["KEY"]', '{"KEY": "a\\\\b"}', '{"KEY": "."}', '{"KEY": ""}', "[" * 100_000,
        "\xff", "{", '{"KEY": "\\ud800"}',
    ],
)  # fmt: skip
def test_notes_that_name_a_folder_elsewhere_are_refused(
    state: str, queue: Path, begun: list[str], capsys: Capture
) -> None:
    notes = queue.with_name("songs.yaml.state.json")
    assert cli(capsys, "run", "--queue", queue).code == 0
    key = next(iter(json.loads(notes.read_text())))
    notes.write_text(state.replace("KEY", key), encoding="latin-1")
    before = notes.read_bytes()
    assert "songs.yaml.state.json" in refused(capsys, 7, "run", "--queue", queue)
    assert notes.read_bytes() == before
    assert len(begun) == 3


def test_a_folder_that_became_a_link_is_not_followed(
    queue: Path, begun: list[str], tmp_path: Path, capsys: Capture
) -> None:
    assert cli(capsys, "run", "--queue", queue).code == 0
    folder = tmp_path / "out" / "first-0"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert cli(capsys, "run", "--queue", queue).code == 0
    assert begun == ["first", "second", "third", "first"]


def test_a_queue_is_worked_on_by_one_process_at_a_time(
    queue: Path, begun: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[str] = []

    def again(*_args: object) -> list[object]:
        if not inside:
            inside.append("")
            inside[0] = refused(capsys, 1, "run", "--queue", queue)
        return []

    monkeypatch.setattr(_queue_run, "song_folders", again)
    assert cli(capsys, "run", "--queue", queue).code == 0
    assert inside == [f"the queue {queue} is being worked on by another yuegguf; wait for it to end"]
    assert begun == ["first", "second", "third"]


def test_options_beside_a_queue_are_refused(queue: Path, capsys: Capture) -> None:
    assert "--seed belongs into the queue's file" in refused(capsys, 2, "run", "--queue", queue, "--seed", 3)
    missing = queue.with_name("no.yaml")
    said = refused(capsys, 5, "run", "--queue", missing)
    assert said == f"the queue {missing} cannot be read (No such file or directory); check the name"


def test_a_queue_stops_at_its_time(queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_queue_run, "clock", lambda text, now: now + datetime.timedelta(milliseconds=1))
    result = cli(capsys, "run", "--queue", queue, "--stop-at", "07:30")
    assert result.code == 75
    assert "stopped at 07:30" in result.error


def test_songs_together_are_the_same_as_one_after_the_other(
    queue: Path, tmp_path: Path, capsys: Capture
) -> None:
    queue.write_text(queue.read_text().replace("seed: 9, draft: true", "seed: 9, candidates: 2"))
    other = queue.with_name("other.yaml")
    other.write_text(queue.read_text().replace(str(tmp_path / "out"), str(tmp_path / "other")))
    one = ended(cli(capsys, "run", "--queue", queue, "--json")).json["songs"]
    result = cli(capsys, "run", "--queue", other, "--parallel", 3, "--json")
    many = ended(result).json["songs"]
    assert [song["name"] for song in many] == ["first", "second", "third"]
    assert [len(song["files"]) for song in many] == [3, 1, 2]
    for before, after in zip(one, many, strict=True):
        names = [Path(file).relative_to(before["folder"]) for file in before["files"]]
        assert names == [Path(file).relative_to(after["folder"]) for file in after["files"]]
        for name in names:
            assert (Path(before["folder"]) / name).read_bytes() == (Path(after["folder"]) / name).read_bytes()
    assert cli(capsys, "run", "--queue", other, "--parallel", 3, "--json").json["songs"] == many


def test_a_song_that_fails_beside_others_is_said_at_once_and_made_later(
    queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        fail_at(patched, "refining", "first")
        result = cli(capsys, "run", "--queue", queue, "--parallel", 3, "--progress", "json", "--json")
    assert result.code == 1
    lines = result.err.splitlines()
    failure = next(n for n, line in enumerate(lines) if "song 1 (first) failed: llama.cpp stumbled" in line)
    shares = [json.loads(line)["progress"] for line in lines if line.startswith('{"progress"')]
    assert {each["phase"] for each in shares} == {"songs"}
    assert (shares[-1]["done"], shares[-1]["total"]) == (3000, 3000)
    assert failure < len(lines) - 1
    assert [("error" in song) for song in result.json["songs"]] == [True, False, False]
    ended(cli(capsys, "run", "--queue", queue, "--parallel", 2))


def test_an_interrupted_queue_says_how_many_were_together(
    queue: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_queue_run, "clock", lambda text, now: now + datetime.timedelta(milliseconds=1))
    result = cli(capsys, "run", "--queue", queue, "--stop-at", "07:30", "--parallel", 2)
    assert result.code == 75
    assert result.error.endswith(f"go on with: yuegguf run --queue {queue} --parallel 2")
    assert "not in the range 1<=x<=32" in refused(capsys, 2, "run", "--queue", queue, "--parallel", 33)
