"""`yuegguf serve` as a command: its link, its key, its end, and a kill in the middle of a song."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from cheap import slowed
from helpers import FAST, TEXT, Capture, Run, cli, refused, song_bytes
from serving_client import BODY, IdleWorker, served
from serving_program import program

from yuegguf.server.settings import KEY_FILE


def test_a_killed_server_goes_on_with_its_song(tmp_path: Path, sung: Run, pace: Path) -> None:
    songs = tmp_path / "songs"
    with slowed(pace), program(songs) as (process, client):
        song = client.create({**BODY, "segment_seconds": 20, "sections": "1"}, idempotency_key="one")
        next(each for each in client.events(song) if each["event"] == "progress")
        process.kill()
        process.wait()
    with program(songs) as (process, client):
        assert client.create({**BODY, "segment_seconds": 20, "sections": "1"}, idempotency_key="one") == song
        assert client.wait(song, "succeeded", "failed")["error"] is None
        assert len(client("GET", "/v1/songs").json["data"]) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    alone = sung(*TEXT, *FAST[2:], "--segment-seconds", 20, "--sections", 1)
    assert song_bytes(songs / song) == song_bytes(alone)
    assert not list(songs.glob(".server.lock"))


def test_a_taken_port_says_who_holds_it(capsys: Capture, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, 1, "serve", "--port", port, "--songs", tmp_path / "songs")
        assert said == f"port {port} is taken by another program; use --port 0 for a free one"
    with served(tmp_path / "other", IdleWorker) as client:
        said = refused(capsys, 1, "serve", "--port", client.port, "--songs", tmp_path / "songs")
        assert "another yuegguf serve" in said
    assert not (tmp_path / "songs").exists()


def test_a_second_command_on_the_folder_is_refused(capsys: Capture, tmp_path: Path) -> None:
    with served(tmp_path / "songs", IdleWorker):
        said = refused(capsys, 1, "serve", "--port", 0, "--songs", tmp_path / "songs")
        assert "is served by another yuegguf serve" in said


def test_a_public_address_has_a_key(tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    with program(songs, "--host", "0.0.0.0") as (_, client):
        key = (songs / KEY_FILE).read_text().strip()
        assert client("GET", "/v1/songs").code == "key_needed"
        assert client("GET", "/v1/songs", authorization=f"Bearer {key}").status == 200


def test_wrong_values_are_refused(capsys: Capture, tmp_path: Path) -> None:
    for args in (("--port", 70000), ("--prefix", "a b"), ("--upload-limit", "x"), ("--parallel", 0)):
        result = cli(capsys, "serve", "--songs", tmp_path / "songs", *args)
        assert (result.code, result.out) == (2, "")
    said = refused(capsys, 5, "serve", "--host", "no.such.host.invalid", "--songs", tmp_path / "songs")
    assert said.startswith("'no.such.host.invalid' is no address of this machine")
    assert not (tmp_path / "songs").exists()
