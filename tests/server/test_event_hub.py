"""Events of songs: what is kept of them, and where a listener goes on."""

from __future__ import annotations

import asyncio

import pytest

from yuegguf.server import events
from yuegguf.server.events import KEPT, EventHub

PROGRESS = {"phase": "draft", "done": 0.5}


def heard(hub: EventHub, last: str = "", status: str = "processing", since: int = 0) -> list[tuple[str, str]]:
    """Id and kind of what a listener gets from a hub that is closed."""

    async def collect() -> list[bytes]:
        return [text async for text in hub.listen("song", last, {"status": status}, since)]

    events = [
        dict(line.split(": ", 1) for line in text.decode().split("\n") if line)
        for text in asyncio.run(collect())
    ]
    return [(event["id"], event["event"]) for event in events]


def test_progress_is_forgotten_once_a_song_has_ended() -> None:
    hub = EventHub()
    hub.close()
    boot = heard(hub)[0][0].partition("-")[0]
    for _ in range(3):
        hub.publish("song", "progress", PROGRESS)
    hub.publish("song", "section", {"number": 1})
    hub.publish("song", "progress", PROGRESS)
    during = hub.after("song", f"{boot}-2")
    assert during is not None
    assert [event.kind for event in during] == ["progress", "section", "progress"]
    hub.publish("song", "done", {"status": "succeeded"})
    whole = heard(hub)
    assert [kind for _, kind in whole] == ["status", "section", "done"]
    assert [kind for _, kind in heard(hub, whole[1][0])] == ["done"]
    assert [kind for _, kind in heard(hub, f"{boot}-2")] == ["section", "done"]
    assert [kind for _, kind in heard(hub, f"{boot}-5")] == ["done"]
    assert [kind for _, kind in heard(hub, f"{boot}-7")] == ["status", "section", "done"]


def test_a_song_keeps_its_newest_events_alone() -> None:
    hub = EventHub()
    for _ in range(KEPT + 5):
        hub.publish("song", "progress", PROGRESS)
    hub.close()
    assert len(heard(hub)) == 1 + KEPT


def test_who_missed_lost_events_begins_anew() -> None:
    hub = EventHub()
    for _ in range(KEPT + 5):
        hub.publish("song", "warning", {"message": "x"})
    hub.close()
    boot = heard(hub)[0][0].partition("-")[0]
    assert hub.after("song", f"{boot}-4") is None
    behind = hub.after("song", f"{boot}-5")
    assert behind is not None
    assert [event.number for event in behind] == list(range(6, KEPT + 6))
    assert hub.after("other", f"{boot}-5") is None
    assert hub.after("song", f"{boot}-{'9' * 5000}") is None


def test_a_song_that_was_forgotten_has_lost_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SONGS_KEPT", 1)
    hub = EventHub()
    hub.publish("song", "warning", {"message": "x"})
    hub.publish("song", "warning", {"message": "y"})
    hub.publish("other", "warning", {"message": "z"})
    hub.publish("song", "done", {"status": "succeeded"})
    hub.close()
    boot = heard(hub)[0][0].partition("-")[0]
    assert hub.after("song", f"{boot}-1") is None


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled", "interrupted"])
def test_who_listens_to_a_song_that_has_ended_is_told_so(status: str) -> None:
    hub = EventHub()
    hub.publish("song", "warning", {"message": "x"})
    hub.publish("song", "done", {"status": status})
    hub.close()
    boot = heard(hub)[0][0].partition("-")[0]
    assert [kind for _, kind in heard(hub, status=status, since=2)] == ["status", "done"]
    assert [kind for _, kind in heard(hub, "unknown", status, 2)] == ["status", "done"]
    assert [kind for _, kind in heard(hub, f"{boot}-1", status, 2)] == ["done"]  # of the song's own events
    assert heard(hub, f"{boot}-2", status, 2) == [(f"{boot}-2", "done")]
    assert [kind for _, kind in heard(hub, status=status, since=1)] == ["status", "done"]  # it came meanwhile
    assert [kind for _, kind in heard(hub, status="queued", since=2)] == ["status"]
