"""Codes and audio over HTTP: the files of `encode` and `decode`, refusals, and kills in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cheap_serve import Processes
from helpers import Capture, cli
from serving_client import Client, Idle, served

from yuegguf.files.arrays import load_array
from yuegguf.server import own_tasks


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs") as found:
        yield found


@pytest.fixture
def recording(recordings: Path) -> bytes:
    return (recordings / "a.wav").read_bytes()


def codes(frames: int = 100, books: int = 8) -> bytes:
    """An .npy of codes."""
    file = BytesIO()
    np.save(file, (np.arange(books * frames).reshape(books, frames) % 1024).astype(np.int16))
    return file.getvalue()


def test_a_recording_is_encoded_as_by_the_command(
    client: Client, recordings: Path, recording: bytes, tmp_path: Path, capsys: Capture
) -> None:
    args = ("--codebooks", 2, "--end", 1, "-o", tmp_path / "alone", "--threads", 1)
    assert cli(capsys, "encode", recordings / "a.wav", *args).code == 0
    asked = {"codebooks": 2, "end": 1}
    answer = client.upload("/v1/codec/encode", asked, {"recording": recording}, idempotency_key="one")
    found = client.ended_task(answer)
    assert (found["status"], found["task"]) == ("succeeded", "encode")
    assert found["result"] == {"codebooks": 2, "frames": 50}
    (file,) = found["files"]
    given = client("GET", f"/{file['url']}?download=1")
    assert given.body == (tmp_path / "alone" / "a.npy").read_bytes()
    assert given.headers["content-disposition"] == f'attachment; filename="{file["name"]}"'
    again = client.upload("/v1/codec/encode", asked, {"recording": recording}, idempotency_key="one")
    assert again.json["id"] == found["id"]
    other = client.upload("/v1/codec/encode", {}, {"recording": recording}, idempotency_key="one")
    assert (other.status, other.code) == (409, "idempotency_key_used")
    assert [each["id"] for each in client("GET", "/v1/tasks").json["data"]] == [found["id"]]
    assert client("GET", "/v1/songs").json["data"] == []
    assert client("DELETE", f"/v1/tasks/{found['id']}").json["deleted"]
    assert client("GET", f"/v1/tasks/{found['id']}").code == "no_such_task"
    assert list((client.songs / ".uploads").iterdir()) == []


def test_codes_are_decoded_as_by_the_command(client: Client, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "alone").mkdir()
    for name in ("vtrack", "itrack"):
        (tmp_path / "alone" / f"{name}.npy").write_bytes(codes())
    args = ("--format", "flac", "--mix", "codec", "--threads", 1, "-o", tmp_path / "alone")
    pair = [tmp_path / "alone" / f"{name}.npy" for name in ("vtrack", "itrack")]
    assert cli(capsys, "decode", *pair, *args).code == 0
    asked = {"formats": ["flac"], "mix": "codec"}
    answer = client.upload("/v1/codec/decode", asked, {"vtrack": codes(), "itrack": codes()})
    found = client.ended_task(answer)
    assert (found["status"], found["result"]) == ("succeeded", {"seconds": 2.0})
    assert [file["name"] for file in found["files"]] == ["instrumental.flac", "mix.flac", "vocals.flac"]
    for file in found["files"]:
        assert client("GET", f"/{file['url']}").body == (tmp_path / "alone" / file["name"]).read_bytes()
    assert client("GET", f"/v1/tasks/{found['id']}/files/vtrack.npy").code == "no_such_file"
    alone = client.ended_task(client.upload("/v1/codec/decode", {}, {"itrack": codes()}))
    assert [file["name"] for file in alone["files"]] == ["itrack.wav"]


@pytest.mark.parametrize(
    ("path", "asked", "files", "status", "words"),
    [
        ("encode", {}, {}, 400, "the recording is missing"),
        ("encode", {"codebooks": 9}, {"recording": b""}, 422, "codebooks"),
        ("encode", {"start": 2, "end": 1}, {"recording": b""}, 422, "the window 2-1 s is empty"),
        ("encode", {"path": "/etc"}, {"recording": b""}, 400, "path"),
        ("encode", {}, {"recording": b"<svg></svg>"}, 422, "recording"),
        ("encode", {}, {"other": b""}, 400, "'other' is not known"),
        ("decode", {}, {}, 400, "the codes are missing"),
        ("decode", {}, {"vtrack": b"no codes"}, 409, "vtrack.npy"),
        ("decode", {}, {"vtrack": codes(0)}, 422, "holds no frames"),
        ("decode", {}, {"vtrack": codes(100, 1)}, 409, "holds codebook 0 only"),
        ("decode", {"bits": 7}, {"vtrack": codes()}, 422, "7 bits"),
        ("decode", {"cover": "/etc/passwd"}, {"vtrack": codes()}, 400, "cover"),
    ],
)
def test_bad_requests_leave_nothing(
    client: Client, path: str, asked: dict[str, Any], files: dict[str, bytes], status: int, words: str
) -> None:
    answer = client.upload(f"/v1/codec/{path}", asked, files)
    assert (answer.status, words in answer.json["error"]["message"]) == (status, True), answer.body
    assert answer.code
    assert client("GET", "/v1/tasks").json["data"] == []
    assert not (client.songs / ".uploads").exists() or not list((client.songs / ".uploads").iterdir())


def test_a_task_is_no_song_and_a_song_no_task(client: Client, recording: bytes) -> None:
    found = client.ended_task(client.upload("/v1/codec/encode", {"end": 1}, {"recording": recording}))
    for song in (f".task-{found['id']}", found["id"], f"..%2F.uploads%2F{found['id']}"):
        assert client("GET", f"/v1/songs/{song}").status == 404
        assert client("DELETE", f"/v1/songs/{song}").status == 404
    for name in ("..%2Fqueue.sqlite", "../../../queue.sqlite", "queue.sqlite"):
        assert client("GET", f"/v1/tasks/{found['id']}/files/{name}").status == 404
    song = client.create()
    assert client("GET", f"/v1/tasks/{song}").code == "no_such_task"
    assert b'yuegguf_songs{state="succeeded"} 1' not in client("GET", "/metrics").body


def test_a_waiting_task_is_cancelled_and_goes_on_after_a_restart(
    tmp_path: Path, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "songs", Idle()) as client:
        first, second = (
            client.upload("/v1/codec/encode", {"end": 1}, {"recording": recording}).json["id"]
            for _ in range(2)
        )
        for _ in client.events(first, kind="tasks"):
            if client.task(first)["status"] == "processing":
                break
        assert client.task(second)["queue"] == {"position": 0}
        assert client("DELETE", f"/v1/tasks/{second}").code == "in_work"
        assert client("POST", f"/v1/tasks/{second}/cancel").json["status"] == "canceled"
    with served(tmp_path / "songs") as client:
        answer = client("GET", f"/v1/tasks/{first}")
        while answer.json["status"] != "succeeded":
            answer = client("GET", f"/v1/tasks/{first}")
        (file,) = answer.json["files"]
        (tmp_path / "codes.npy").write_bytes(client("GET", f"/{file['url']}").body)
        assert load_array(tmp_path / "codes.npy").shape == (8, 50)
        monkeypatch.setattr(own_tasks, "KEPT_SECONDS", 0.0)
        third = client.ended_task(client.upload("/v1/codec/encode", {"end": 1}, {"recording": recording}))
        assert [each["id"] for each in client("GET", "/v1/tasks").json["data"]] == [third["id"]]
        assert [path.name for path in (client.songs / ".uploads").iterdir()] == [third["id"]]


def test_a_killed_worker_encodes_again(tmp_path: Path, recording: bytes) -> None:
    processes = Processes()
    with served(tmp_path / "songs", processes) as client:
        answer = client.upload("/v1/codec/encode", {"end": 1}, {"recording": recording})
        while not processes.pids:
            client.task(answer.json["id"])
        processes.kill_first()
        found = client.ended_task(answer)
        assert (found["status"], found["result"]["frames"]) == ("succeeded", 50)
