"""Voices over HTTP: saved, shown, used and deleted, as by `voice`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Capture, cli
from serving_client import BODY, Client, Idle, multipart, served

from yuegguf.server.worker_process import WorkerProcess
from yuegguf.song.voices import load_voice


@pytest.fixture(autouse=True)
def voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of voices."""
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    return tmp_path / "voices"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs") as found:
        yield found


@pytest.fixture
def recording(recordings: Path) -> bytes:
    return (recordings / "a.wav").read_bytes()


def test_a_voice_is_saved_as_by_the_command(
    client: Client, recordings: Path, recording: bytes, capsys: Capture
) -> None:
    args = ("--ref", recordings / "a.wav", "--ref-end", 1, "--threads", 1)
    assert cli(capsys, "voice", "save", "bea", *args).code == 0
    parts = {"request": b'{"name": "anna", "ref_end": 1}', "ref": recording}
    body, kind = multipart(parts, "../her voice.wav")
    found = client.ended_task(client("POST", "/v1/voices", body, content_type=kind))
    assert (found["status"], found["error"]) == ("succeeded", None)
    ours, theirs = load_voice("anna"), load_voice("bea")
    assert np.array_equal(ours.codes, theirs.codes)
    assert (ours.sources, ours.seconds, ours.codec) == (("her voice.wav",), 1.0, theirs.codec)
    listed = client("GET", "/v1/voices").json["data"]
    assert [each["name"] for each in listed] == ["anna", "bea"]
    assert client("GET", "/v1/voices/anna").json == {"object": "voice", **ours.to_json()}
    assert client("GET", "/v1/props").json["voices"] == ["anna", "bea"]
    song = client.create({**BODY, "voice": "anna"})
    assert client("DELETE", "/v1/voices/anna").json["deleted"]
    assert client("DELETE", "/v1/voices/anna").code == "no_such_voice"
    assert client.wait(song, "succeeded", "failed")["status"] == "succeeded"


def test_two_tracks_are_a_voice(client: Client, recording: bytes) -> None:
    asked, files = {"name": "duo", "ref_end": 1}, {"vocal_ref": recording, "inst_ref": recording}
    assert client.ended_task(client.upload("/v1/voices", asked, files))["status"] == "succeeded"
    assert load_voice("duo").dual


@pytest.mark.parametrize(
    ("asked", "parts", "status", "words"),
    [
        ({}, ("ref",), 400, "name"),
        ({"name": "../up"}, ("ref",), 422, "cannot be the name of a voice"),
        ({"name": ".hidden"}, ("ref",), 422, "cannot be the name of a voice"),
        ({"name": "a" * 65}, ("ref",), 400, "64"),
        ({"name": "x"}, (), 422, "names no recording"),
        ({"name": "x"}, ("vocal_ref",), 422, "needs both tracks"),
        ({"name": "x"}, ("ref", "vocal_ref", "inst_ref"), 422, "one file or two tracks"),
        ({"name": "x", "ref_start": 2, "ref_end": 1}, ("ref",), 422, "is empty"),
        ({"name": "x", "ref_start": 900, "ref_end": 901}, ("ref",), 422, "900-901 s holds nothing"),
        ({"name": "x", "file": "/etc/passwd"}, ("ref",), 400, "file"),
    ],
)
def test_bad_requests_save_nothing(
    client: Client,
    voices: Path,
    recording: bytes,
    asked: Any,
    parts: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    answer = client.upload("/v1/voices", asked, dict.fromkeys(parts, recording))
    assert (answer.status, words in answer.json["error"]["message"]) == (status, True), answer.body
    assert answer.code
    assert not voices.exists() or not list(voices.iterdir())
    assert client("GET", "/v1/tasks").json["data"] == []


def test_a_used_name_is_refused_unless_it_is_replaced(client: Client, recording: bytes) -> None:
    asked, files = {"name": "anna", "ref_end": 1}, {"ref": recording}
    client.ended_task(client.upload("/v1/voices", asked, files))
    refused = client.upload("/v1/voices", {**asked, "ref_end": 2}, files)
    assert (refused.status, "already" in refused.json["error"]["message"]) == (422, True)
    found = client.ended_task(client.upload("/v1/voices", {**asked, "ref_end": 2, "replace": True}, files))
    assert (found["status"], load_voice("anna").seconds) == ("succeeded", 2.0)


def test_a_voice_that_was_saved_before_a_kill_is_saved_once(tmp_path: Path, recording: bytes) -> None:
    asked, files = {"name": "anna", "ref_end": 1}, {"ref": recording}
    with served(tmp_path / "songs", Idle()) as client:
        waiting = [client.upload("/v1/voices", asked, files) for _ in range(2)]
        other = client.upload("/v1/voices", {**asked, "ref_end": 2}, files)
        assert {answer.status for answer in (*waiting, other)} == {202}
    with served(tmp_path / "songs") as client:
        assert [client.ended_task(answer)["status"] for answer in waiting] == ["succeeded"] * 2
        failed = client.ended_task(other)
        assert (failed["status"], "already" in failed["error"]["message"]) == ("failed", True)
    assert load_voice("anna").seconds == 1.0


def test_a_damaged_voice_does_not_hide_the_others(tmp_path: Path, voices: Path) -> None:
    voices.mkdir()
    (voices / "broken.npz").write_bytes(b"no zip")
    with served(tmp_path / "songs", WorkerProcess) as client:
        (found,) = client("GET", "/v1/voices").json["data"]
        assert (found["name"], "damaged" in found["problem"]) == ("broken", True)
        assert client("GET", "/v1/voices/broken").code == "damaged_file"
