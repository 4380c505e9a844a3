"""Recordings that songs were requested with: of a deleted queue, and of a request that came twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import FAST, TEXT, Run, song_bytes
from serving_client import BODY, IdleWorker, multipart, served

from yuegguf.server.service import Service
from yuegguf.server.settings import QUEUE_FILE


def body_with(recording: Path) -> tuple[bytes, str]:
    """A request with a recording, and its content type."""
    request = json.dumps({**BODY, "ref_end": 1}).encode()
    return multipart({"request": request, "ref": recording.read_bytes()}, "a.wav")


def test_a_song_with_a_recording_goes_on_without_its_queue(
    tmp_path: Path, recordings: Path, sung: Run
) -> None:
    songs = tmp_path / "songs"
    data, kind = body_with(recordings / "a.wav")
    with served(songs, IdleWorker) as client:
        answer = client("POST", "/v1/songs", data, content_type=kind)
        assert answer.status == 202
    song = answer.json["id"]
    for file in songs.glob(f"{QUEUE_FILE}*"):
        file.unlink()
    nobodys = songs / ".uploads" / "0123456789abcdef"
    nobodys.mkdir()
    with served(songs) as client:
        assert not nobodys.exists()
        assert client.song(song)["status"] == "interrupted"
        assert client("POST", f"/v1/songs/{song}/resume").status == 202
        assert client.wait(song, "succeeded", "failed")["error"] is None
        assert len(client("GET", "/v1/songs").json["data"]) == 1
    alone = sung(*TEXT, *FAST, "--ref", recordings / "a.wav", "--ref-end", 1)
    assert song_bytes(songs / song) == song_bytes(alone)
    with served(songs, IdleWorker) as client:
        client("DELETE", f"/v1/songs/{song}")
    with served(songs, IdleWorker):
        assert list((songs / ".uploads").iterdir()) == []


def test_a_request_that_comes_twice_at_once_keeps_one_recording(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up, known = [0], Service.known

    def known_later(service: Service, idempotency: Any) -> str | None:
        """The song of a key, unknown each time that it is looked up before its recordings are stored."""
        looked_up[0] += 1
        return None if looked_up[0] % 2 else known(service, idempotency)

    monkeypatch.setattr(Service, "known", known_later)
    data, kind = body_with(recordings / "a.wav")
    with served(tmp_path / "songs", IdleWorker) as client:
        answers = [
            client("POST", "/v1/songs", data, content_type=kind, idempotency_key="one") for _ in range(2)
        ]
        assert [answer.json["id"] for answer in answers] == [answers[0].json["id"]] * 2
        assert len(list((tmp_path / "songs" / ".uploads").iterdir())) == 1
