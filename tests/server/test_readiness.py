"""The readiness line for a service manager, and keys that would open the server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from helpers import Capture, cli
from serving_program import program

from yuegguf.server.readiness import notify_service_manager

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


def test_the_manager_is_told_once_the_server_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with program(tmp_path / "songs") as (_, client):
            assert manager.recv(100) == b"READY=1"
            assert client("GET", "/health").status == 200


def test_abstract_names_are_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"yuegguf-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify_service_manager("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "nothing", "/nowhere/there", "@yuegguf-nobody-listens"])
def test_without_a_manager_nothing_happens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify_service_manager("READY=1")


@pytest.mark.parametrize("key", ["", "short", "with space in it", "ключ-ключ-ключ", "line\nbreak-line"])
def test_keys_that_protect_nothing_are_refused(key: str, capsys: Capture, tmp_path: Path) -> None:
    said = cli(capsys, "serve", "--host", "0.0.0.0", "--port", 0, "--songs", tmp_path / "s", f"--key={key}")
    assert said.code == 2
    assert "--key is 8 to 200 letters" in said.err
    assert not (tmp_path / "s").exists()


def test_the_key_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUEGGUF_KEY", "a-key-of-the-environment")
    with program(tmp_path / "songs") as (_, client):
        assert client("GET", "/v1/songs").code == "key_needed"
        assert client("GET", "/v1/songs", authorization="Bearer a-key-of-the-environment").status == 200
