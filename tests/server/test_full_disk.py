"""Songs that a full disk keeps out of the queue: nothing is left of them, and the request works later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import FAST, TEXT, Run
from serving_client import BODY, Client, Idle, copied_song, multipart, served

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.pipeline import takes
from yuegguf.server.jobs import JobStore
from yuegguf.song.folder import SongFolder


def refuse(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let changes of the queue fail, as they do on a full disk."""

    def full(*_: Any, **__: Any) -> None:
        raise StorageError("the disk is full", "delete something")

    for name in names:
        monkeypatch.setattr(JobStore, name, full)


def test_a_song_that_cannot_be_queued_leaves_nothing_and_the_same_request_makes_it(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs, request = tmp_path / "songs", b'{"genre": "pop", "lyrics": "[verse]\\nla", "ref_end": 1}'
    data, kind = multipart({"request": request, "ref": (recordings / "a.wav").read_bytes()}, "a.wav")

    def post(client: Client) -> Any:
        return client("POST", "/v1/songs", data, content_type=kind, idempotency_key="one")

    for refused in (("take",), ("take", "delete")):  # where the row cannot even be removed
        with served(songs, Idle()) as client:
            with monkeypatch.context() as disk:
                refuse(disk, *refused)
                assert post(client).code == "storage"
            assert not list(songs.glob("*/song.json"))
            assert not list((songs / ".uploads").iterdir())
            song = post(client).json["id"]
            assert client.song(song)["status"] in ("queued", "processing")
            assert len(list((songs / ".uploads").iterdir())) == 1
            client("POST", f"/v1/songs/{song}/cancel")
            client.wait(song, "canceled")
            assert client("DELETE", f"/v1/songs/{song}").status == 200


def test_an_extension_that_cannot_be_queued_leaves_nothing(
    tmp_path: Path, sung: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    old = copied_song(sung(*TEXT, *FAST), songs / "old-000000")
    with served(songs, Idle()) as client:
        with monkeypatch.context() as disk:
            refuse(disk, "take")
            body = {"retake": 2, "seed": 9}
            assert client("POST", f"/v1/songs/{old.name}/extend", body).code == "storage"
        assert [path.parent.name for path in songs.glob("*/song.json")] == [old.name]
        assert client("POST", f"/v1/songs/{old.name}/extend", body).status == 202


def test_a_new_folder_that_cannot_be_opened_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def damaged(_kind: type[SongFolder], path: Path) -> SongFolder:
        opened.append(path)
        raise DamagedFile("it cannot be read", "check the disk")

    monkeypatch.setattr(SongFolder, "open", classmethod(damaged))
    with served(tmp_path / "songs", Idle()) as client:
        assert client("POST", "/v1/songs", {**BODY, "candidates": 2}).code == "damaged_file"
    assert [path.name for path in opened] == ["take-1"]
    assert not opened[0].parent.exists()


def test_a_song_that_is_cancelled_before_it_is_queued_stays_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: Callable[..., Any] = takes.start
    with served(tmp_path / "songs", Idle()) as client:

        def cancelled(*given: Any) -> Any:
            folders = start(*given)
            assert client("POST", f"/v1/songs/{folders[0].path.name}/cancel").json["status"] == "canceled"
            return folders

        monkeypatch.setattr(takes, "start", cancelled)
        song = client.create()
        assert client.song(song)["status"] == "canceled"


def test_a_task_is_queued_with_its_warnings_or_not_at_all(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    store.insert_task("a", "{}", "audio", warnings=("one", "two", "one"))
    row = store.get("a")
    assert row is not None
    assert (row.state, row.warnings) == ("queued", '["one", "two"]')
