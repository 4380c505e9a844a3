"""A song's files written anew over HTTP: the bytes of `render`, refusals, and a kill in the middle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cheap import slowed
from cheap_serve import Processes
from helpers import FAST, TEXT, Capture, Run, cli, song_bytes
from serving_client import BODY, Client, Idle, copied_song, served

from yuegguf.files.atomic import locked_folder


@pytest.fixture
def client(tmp_path: Path, sung: Run) -> Iterator[Client]:
    """A server with the song "mine", which `run` made."""
    copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "mine")
    with served(tmp_path / "songs") as found:
        yield found


def test_a_song_is_rendered_as_by_the_command(
    client: Client, sung: Run, tmp_path: Path, capsys: Capture
) -> None:
    alone = copied_song(sung(*TEXT, *FAST), tmp_path / "alone" / "mine")
    args = ("--format", "flac,mp3", "--bits", 24, "--vocal-gain", 3, "--loudness", "off", "--stereo")
    assert cli(capsys, "render", alone, *args, "--threads", 1).code == 0
    body = {"formats": ["flac", "mp3"], "bits": 24, "vocal_gain": 3, "loudness": None, "stereo": True}
    answer = client("POST", "/v1/songs/mine/render", body)
    assert answer.status == 202, answer.body
    assert answer.json["task"] == "render"
    found = client.wait("mine", "succeeded")
    assert found["error"] is None
    assert [file["name"] for file in found["files"]][:2] == ["mix.flac", "mix.mp3"]
    assert song_bytes(client.songs / "mine") == song_bytes(alone)
    output = client("GET", "/v1/songs/mine/project").json["request"]["output"]
    assert (output["mix"], output["vocal_gain"], output["loudness"]) == ("hybrid", 3, None)
    forced = client("POST", "/v1/songs/mine/render", {"formats": ["wav"], "force": True})
    assert forced.status == 202
    assert {file["name"] for file in client.wait("mine", "succeeded")["files"]} == {
        "mix.wav", "vocals.wav", "instrumental.wav",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"[]", 400, "the body cannot be used"),
        ({"unknown": 1}, 400, "unknown"),
        ({"cover": "/tmp/picture.png"}, 400, "cover"),
        ({"formats": []}, 422, "unknown format"),
        ({"formats": ["wav", "wav"]}, 422, "named twice"),
        ({"formats": ["exe"]}, 400, "exe"),
        ({"bits": 8}, 422, "8 bits"),
        ({"vocal_gain": 100}, 422, "the vocal gain"),
        ({"vocal_gain": None}, 400, "null"),
        ({"year": 0}, 422, "the year"),
        ({"mix": "upstream", "loudness": -10}, 422, "--loudness has no effect with --mix upstream"),
        ({"rescale": True, "loudness": -10}, 422, "--loudness has no effect with --rescale"),
        ({"stems": False, "stem_mode": "raw"}, 422, "--stems has no effect with --no-stems"),
        ({"tags": False, "artist": "Me"}, 422, "--artist has no effect with --no-tags"),
    ],
)
def test_bad_bodies_change_nothing(client: Client, body: Any, status: int, words: str) -> None:
    before = song_bytes(client.songs / "mine")
    answer = client("POST", "/v1/songs/mine/render", body)
    assert (answer.status, words in answer.json["error"]["message"]) == (status, True), answer.body
    assert answer.code
    assert client.song("mine")["status"] == "succeeded"
    assert song_bytes(client.songs / "mine") == before


def test_what_cannot_be_rendered_is_refused(client: Client) -> None:
    assert client("POST", "/v1/songs/other/render", {}).code == "no_such_song"
    foreign = client.songs / "mine" / "mix.flac"
    foreign.write_bytes(b"not ours")
    refused = client("POST", "/v1/songs/mine/render", {"formats": ["flac"]})
    assert "was not written for this song" in refused.json["error"]["message"]
    assert (refused.status, foreign.read_bytes()) == (422, b"not ours")
    with locked_folder(client.songs / "mine"):
        assert client("POST", "/v1/songs/mine/render", {}).code == "in_work"
    draft = client.create({**BODY, "draft": "mix"})
    client.wait(draft, "succeeded")
    early = client("POST", f"/v1/songs/{draft}/render", {})
    assert (early.status, "has no stage2.npz yet" in early.json["error"]["message"]) == (422, True)


def test_a_rendering_does_not_wait_for_a_song(tmp_path: Path, sung: Run) -> None:
    copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "mine")
    idle = Idle()
    with served(tmp_path / "songs", idle, max_queue=2) as client:
        song = client.create()
        client.wait(song, "processing")
        assert client("POST", "/v1/songs/mine/render", {"fade": 5}).status == 202
        client.wait("mine", "processing")
        assert [worker.messages[0]["do"] for worker in idle.started] == ["song", "task"]
        assert client("POST", "/v1/songs/mine/render", {}).code == "in_work"
        assert client("POST", "/v1/songs/mine/resume").code == "in_work"
        assert client("DELETE", "/v1/songs/mine").code == "in_work"
        client("POST", "/v1/songs/mine/cancel")
        found = client.wait("mine", "succeeded")  # its files are whole
        assert (found["task"], found["error"]) == ("render", None)
        assert client("POST", "/v1/songs/mine/render", {"fade": 5}).status == 202
        idle.started[1].say("ended", song="mine", outcome="failed", error={"message": "full"})
        failed = client.wait("mine", "succeeded")
        assert failed["error"] == {"message": "full"}
        assert client.song(song)["status"] == "processing"


def test_a_rendering_goes_on_after_a_restart(tmp_path: Path, sung: Run, capsys: Capture) -> None:
    alone = copied_song(sung(*TEXT, *FAST), tmp_path / "alone" / "mine")
    assert cli(capsys, "render", alone, "--inst-gain", -3, "--threads", 1).code == 0
    copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "mine")
    with served(tmp_path / "songs", Idle()) as client:
        assert client("POST", "/v1/songs/mine/render", {"inst_gain": -3}).status == 202
        client.wait("mine", "processing")
    with served(tmp_path / "songs") as client:
        client.wait("mine", "succeeded")
        assert song_bytes(tmp_path / "songs" / "mine") == song_bytes(alone)


def test_a_killed_rendering_is_done_again(tmp_path: Path, sung: Run, capsys: Capture, pace: Path) -> None:
    long = sung(*TEXT, *FAST[2:], "--segment-seconds", 20, "--sections", 1)
    alone = copied_song(long, tmp_path / "alone" / "mine")
    assert cli(capsys, "render", alone, "--inst-gain", -3, "--threads", 1).code == 0
    copied_song(long, tmp_path / "songs" / "mine")
    processes = Processes()
    with served(tmp_path / "songs", processes) as client:
        with slowed(pace):
            assert client("POST", "/v1/songs/mine/render", {"inst_gain": -3}).status == 202
            next(each for each in client.events("mine") if each["event"] == "progress")
            processes.kill_first()
        found = client.wait("mine", "succeeded")
        assert found["error"] is None
        assert song_bytes(tmp_path / "songs" / "mine") == song_bytes(alone)


def test_a_section_is_generated_again(client: Client) -> None:
    assert client("POST", "/v1/songs/mine/retake", {"section": 9}).status == 422
    assert client("POST", "/v1/songs/mine/retake", {"section": 0}).status == 400
    assert client("POST", "/v1/songs/mine/retake", {}).status == 400
    answer = client("POST", "/v1/songs/mine/retake", {"section": 1, "seed": 9, "keep_after": True})
    assert answer.status == 202, answer.body
    again = client.wait(answer.json["id"], "succeeded", "failed")
    assert (again["status"], again["seed"], again["sections"]) == ("succeeded", 9, 2)
    assert json.loads((client.songs / again["id"] / "song.json").read_text())["from"]["folder"] == "mine"


def test_the_bodies_are_described(client: Client) -> None:
    document = client("GET", "/v1/openapi.json").json
    described = {
        path: document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for path in ("/v1/songs/{song}/render", "/v1/songs/{song}/retake")
    }
    schemas = document["components"]["schemas"]
    assert {path: ref.rpartition("/")[2] in schemas for path, ref in described.items()} == dict.fromkeys(
        described, True
    )
