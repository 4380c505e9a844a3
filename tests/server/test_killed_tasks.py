"""A server that is killed with tasks in its queues: each is done after the restart, and done once."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import FAST, TEXT, Capture, Run, cli, song_bytes
from serving_client import copied_song
from serving_program import program

from yuegguf.song.voices import load_voice


def test_a_killed_server_goes_on_with_its_tasks(
    tmp_path: Path, sung: Run, recordings: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    alone = copied_song(sung(*TEXT, *FAST), tmp_path / "alone" / "mine")
    assert cli(capsys, "render", alone, "--inst-gain", -3, "--threads", 1).code == 0
    songs, recording = tmp_path / "songs", (recordings / "a.wav").read_bytes()
    copied_song(sung(*TEXT, *FAST), songs / "mine")
    both = dict.fromkeys(("vocal_stem", "inst_stem"), recording)
    with program(songs) as (process, client):
        answers = [
            client.upload("/v1/import", {"genre": "folk"}, both, idempotency_key="one"),
            client.upload("/v1/codec/encode", {"end": 1}, {"recording": recording}, idempotency_key="two"),
            client.upload("/v1/voices", {"name": "anna", "ref_end": 1}, {"ref": recording}),
        ]
        assert client("POST", "/v1/songs/mine/render", {"inst_gain": -3}).status == 202
        process.kill()
        process.wait()
    with program(songs) as (process, client):
        again = client.upload("/v1/import", {"genre": "folk"}, both, idempotency_key="one")
        assert again.json["id"] == answers[0].json["id"]
        ended = [client.ended_task(answer) for answer in answers]
        assert [task["status"] for task in ended] == ["succeeded"] * 3
        imported = client.wait(ended[0]["result"]["song"], "succeeded", "failed")
        assert (imported["status"], imported["seconds"]) == ("succeeded", 2.0)
        assert client.wait("mine", "succeeded")["error"] is None
        assert {song["id"] for song in client("GET", "/v1/songs").json["data"]} == {"mine", imported["id"]}
        assert [len(client.task(answer.json["id"])["files"]) for answer in answers] == [0, 1, 0]
    assert song_bytes(songs / "mine") == song_bytes(alone)
    assert load_voice("anna").seconds == 1.0
