"""The list of songs and the look at one of them read no more than they show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_client import IdleWorker

from yuegguf.server import shelf
from yuegguf.server.forecasting import forecast_json
from yuegguf.server.jobs import State
from yuegguf.server.listing import PageChoice
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service
from yuegguf.server.settings import Settings

MANY = 2000


def plain(path: str) -> str:
    return path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(Settings(tmp_path / "songs"), IdleWorker, forecast_json)
    yield found
    found.close()


def put(service: Service, name: str, age: float) -> Path:
    """A folder with a record that cannot be read, changed so many seconds after 1970."""
    folder = service.settings.songs / name
    folder.mkdir()
    (folder / "song.json").write_text("{}")
    os.utime(folder / "song.json", (age, age))
    return folder


def names(page: dict[str, Any]) -> list[str]:
    return [song["id"] for song in page["data"]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders that were opened to be shown."""
    found: list[str] = []
    summarise = shelf.summarise

    def counted(folder: Path, **options: Any) -> Any:
        found.append(folder.name)
        return summarise(folder, **options)

    monkeypatch.setattr(shelf, "summarise", counted)
    return found


def test_a_page_opens_the_songs_on_it_alone(service: Service, opened: list[str]) -> None:
    for number in range(MANY):
        put(service, f"song-{number}", number)
    for name in ("song-7", "song-9"):  # requested last, so they are the newest
        service.store.queue(name)
    statements: list[str] = []
    service.store._db.set_trace_callback(statements.append)
    page = service.listed(PageChoice(5), plain)
    assert names(page) == ["song-9", "song-7", "song-1999", "song-1998", "song-1997"]
    assert [song["queue"] for song in page["data"]] == [{"position": 1}, {"position": 0}, None, None, None]
    assert page["has_more"]
    assert opened == names(page)
    assert len(statements) == 1

    opened.clear()
    page = service.listed(PageChoice(2, after="song-1"), plain)
    assert (names(page), page["has_more"], opened) == (["song-0"], False, ["song-0"])
    page = service.listed(PageChoice(1, after="song-2"), plain)
    assert (names(page), page["has_more"]) == (["song-1"], True)
    with pytest.raises(HttpProblem, match="no such song to list from"):
        service.listed(PageChoice(2, after="song-2000"), plain)


def test_a_status_that_rows_say_opens_no_other_song(service: Service, opened: list[str]) -> None:
    states: list[State] = ["queued", "processing", "new", "failed", "queued"]
    for number, state in enumerate(states):
        put(service, f"song-{number}", number)
        service.store.queue(f"song-{number}")
        service.store.change(f"song-{number}", state)
    put(service, "by-hand", 1)
    for status, expected in (("queued", [4, 0]), ("starting", [2]), ("no such status", [])):
        opened.clear()
        page = service.listed(PageChoice(9, status), plain)
        assert names(page) == [f"song-{number}" for number in expected]
        if expected:
            assert opened == names(page)
    page = service.listed(PageChoice(1, "failed"), plain)
    assert (names(page), page["has_more"]) == (["song-3"], True)  # damaged: what was put there by hand
    page = service.listed(PageChoice(2, "failed"), plain)
    assert (names(page), page["has_more"]) == (["song-3", "by-hand"], False)


def test_one_song_is_found_without_a_list_of_all(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    songs = service.settings.songs
    for name in ("one", "two", "a:b"):
        put(service, name, 1)
    put(service, "two/take-3", 1)
    (songs / "takes").mkdir()
    put(service, "takes/take-2", 1)
    put(service, ".hidden", 1)
    (songs / "link").symlink_to(songs / "one")
    (songs / "takes" / "take-4").symlink_to(songs / "one")
    listed: list[Any] = []
    for name in ("listdir", "scandir"):
        plain_list = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda path=".", call=plain_list: (listed.append(Path(path)), call(path))[1]
        )
    assert service.shelf.path("one") == songs / "one"
    for _ in range(10):
        assert service.shelf.path("one") == songs / "one"
        assert service.shelf.path("two:take-3") == songs / "two" / "take-3"
        assert service.shelf.path("takes:take-2") == songs / "takes" / "take-2"
        assert service.shelf.path("a:b") == songs / "a:b"
    assert listed.count(songs) == 1
    for wrong in ("takes/../one", "one/", "./one", "", ".", "..", ".hidden", "link", "takes:take-4", "three",
                  "takes:take-3", "takes:take-02", "takes:../one", "one\0", str(songs / "one")):  # fmt: skip
        with pytest.raises(HttpProblem, match="there is no such song"):
            service.shelf.path(wrong)
    put(service, "new", 1)  # since it was listed
    assert service.shelf.path("new") == songs / "new"
    (songs / "new" / "song.json").unlink()
    with pytest.raises(HttpProblem):
        service.shelf.path("new")
