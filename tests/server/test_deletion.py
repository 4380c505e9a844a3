"""Deletion of songs, damaged ones too, and who is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import FAST, TEXT, Run
from serving_client import IdleWorker, copied_song

from yuegguf.errors import DamagedFile, FolderBusy, RequestError
from yuegguf.files.atomic import locked_folder
from yuegguf.server import shelf
from yuegguf.server.deletion import delete_song
from yuegguf.server.forecasting import forecast_json
from yuegguf.server.jobs import JobStore, State
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service
from yuegguf.server.settings import Settings


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(Settings(tmp_path / "songs"), IdleWorker, forecast_json)
    yield found
    found.close()


@pytest.fixture
def told(service: Service) -> list[str]:
    """Songs whose listeners are told that they are deleted."""
    found: list[str] = []

    def watch(song: str, kind: str, data: dict[str, Any]) -> None:
        assert (kind, data) == ("done", {"status": "deleted", "error": None})
        found.append(song)

    service.hub.watch(watch)
    return found


def put(service: Service, name: str) -> Path:
    """A folder with a record that cannot be read."""
    folder = service.settings.songs / name
    folder.mkdir(parents=True)
    (folder / "song.json").write_text("{}")
    return folder


def test_a_damaged_song_is_deleted_as_any_other(service: Service, told: list[str]) -> None:
    folder = put(service, "one")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match=r"'notes.txt', which yuegguf did not make"):
        delete_song(service, "one")
    with locked_folder(folder), pytest.raises(FolderBusy):
        delete_song(service, "one", force=True)
    assert {path.name for path in folder.iterdir()} == {"song.json", "notes.txt"}
    assert told == []
    delete_song(service, "one", force=True)
    assert not folder.exists()
    put(service, "two/take-1")
    delete_song(service, "two")
    assert not (folder.parent / "two").exists()


@pytest.mark.parametrize("force", [False, True])
def test_an_unsafe_folder_is_never_deleted(service: Service, tmp_path: Path, force: bool) -> None:
    canary = tmp_path / "elsewhere" / "canary"
    canary.parent.mkdir()
    canary.write_text("alive")
    for name, target in (("mix.wav", canary), ("chunks", canary.parent)):
        folder = put(service, name)
        (folder / name).symlink_to(target)
        with pytest.raises(DamagedFile, match="leads out of the song folder"):
            delete_song(service, name, force=force)
        assert (folder / "song.json").is_file()
    put(service, "takes")
    (folder.parent / "takes" / "take-1").symlink_to(canary.parent)
    (canary.parent / "song.json").write_text("{}")
    with pytest.raises(DamagedFile, match="link to another folder"):
        delete_song(service, "takes", force=force)
    assert canary.read_text() == "alive"


def test_listeners_of_a_song_without_a_row_and_of_all_its_takes_are_told(
    service: Service, told: list[str], sung: Run
) -> None:
    songs = service.settings.songs
    copied_song(sung(*TEXT, *FAST), songs / "mine")
    for take in ("take-1", "take-2"):
        copied_song(songs / "mine", songs / "two" / take)
        copied_song(songs / "mine", songs / "one by one" / take)
    service.store.queue("two:take-2")
    delete_song(service, "mine")
    assert told == ["mine"]
    told.clear()
    delete_song(service, "two")
    assert sorted(told) == ["two", "two:take-1", "two:take-2"]
    told.clear()
    delete_song(service, "one by one:take-1")
    assert told == ["one by one:take-1"]
    delete_song(service, "one by one:take-2")  # the last one
    assert sorted(told[1:]) == ["one by one", "one by one:take-2"]
    assert service.store.all() == []
    assert service.shelf.ids() == {}


def test_a_song_that_a_worker_gets_in_this_moment_stays_its(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(service, "one")
    put(service, "one/take-1")
    for name in ("one", "one:take-1"):
        service.store.queue(name)
    take = JobStore.take

    def after_the_worker(store: JobStore, song: str, before: State, after: State, **changes: float) -> bool:
        if song == "one":
            store.change(song, "processing")
        return take(store, song, before, after, **changes)

    monkeypatch.setattr(JobStore, "take", after_the_worker)
    with pytest.raises(HttpProblem, match="the song is being generated"):
        delete_song(service, "one")
    assert folder.is_dir()
    assert {row.song: row.state for row in service.store.all()} == {
        "one": "processing",
        "one:take-1": "queued",
    }


def test_a_deletion_looks_for_its_song_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    path = shelf.Shelf.path

    def counted(found: shelf.Shelf, song: str) -> Path:
        looked.append(song)
        return path(found, song)

    monkeypatch.setattr(shelf.Shelf, "path", counted)
    (put(service, "one") / "mix.wav").symlink_to(Path(__file__))
    service.store.queue("one")
    statements: list[str] = []
    service.store._db.set_trace_callback(statements.append)
    with pytest.raises(DamagedFile):
        delete_song(service, "one")
    reads = [statement for statement in statements if statement.startswith("SELECT")]
    assert (looked, len(reads)) == (["one"], 1)
