"""A queue that was deleted: the songs are there, and go on with what they were requested with."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import FAST, TEXT, Run, song_bytes
from serving_client import BODY, IdleWorker, multipart, served

from yuegguf.server.settings import QUEUE_FILE


def test_a_song_with_a_recording_goes_on_without_its_queue(
    tmp_path: Path, recordings: Path, sung: Run
) -> None:
    songs = tmp_path / "songs"
    parts = {
        "request": json.dumps({**BODY, "ref_end": 1}).encode(),
        "ref": (recordings / "a.wav").read_bytes(),
    }
    data, kind = multipart(parts, "a.wav")
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
