"""Events of songs for listeners: numbered and kept, so that a listener goes on where it was cut off."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

KEPT = 200
"""Events of a song that are kept; those of its progress until it has ended."""
PING_SECONDS = 15.0
MAX_DIGITS = 18
"""Digits of a number in an event's id that is read; a client may send any."""
SONGS_KEPT = 1000
"""Songs whose events are kept."""
ENDED = ("succeeded", "failed", "canceled", "interrupted")
"""Statuses of songs and tasks that no server works on."""

Watcher = Callable[[str, str, dict[str, Any]], None]
"""Called with the id of a song, and the kind and the data of an event."""


@dataclass(frozen=True)
class SongEvent:
    """An event of a song."""

    number: int
    kind: str
    """status, progress, section, preview, take, warning or done."""
    data: dict[str, Any]


class EventHub:
    """The newest events of each song. Any thread may publish; listeners are coroutines of one loop."""

    def __init__(self, shown: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> None:
        """`shown` makes the data that is published of what an event is given."""
        self._shown = shown
        self._boot = secrets.token_hex(4)
        """Begins every id: numbers start again after a restart."""
        self._songs: dict[str, deque[SongEvent]] = {}
        self._lost: dict[str, int] = {}
        """Number of the newest event of each song that others pushed out."""
        self._forgotten = 0
        """Number of the newest event of the songs whose events are not kept any more."""
        self._listeners: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._watchers: list[Watcher] = []
        self._lock, self._number, self._closed = threading.Lock(), 0, False

    def publish(self, song: str, kind: str, data: dict[str, Any]) -> None:
        """Add an event and wake the listeners of the song."""
        data = self._shown(data)
        with self._lock:
            self._number += 1
            events = self._songs.pop(song, None) or deque[SongEvent]()
            if not events and self._forgotten:  # it may have had events before
                self._lost[song] = self._forgotten
            if kind == "done":  # nobody asks how far it was, and a thousand songs' progress is 200 MB
                events = deque(each for each in events if each.kind != "progress")
            self._songs[song] = events  # the song that changed last is the last in the dictionary
            events.append(SongEvent(self._number, kind, data))
            if len(events) > KEPT:
                self._lost[song] = events.popleft().number
            while len(self._songs) > SONGS_KEPT:
                oldest = next(iter(self._songs))
                self._forgotten = max(self._forgotten, self._songs.pop(oldest)[-1].number)
                self._lost.pop(oldest, None)
            self._wake(song)
        for watcher in self._watchers:
            watcher(song, kind, data)

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher` with every event, in the publishing thread; it must neither wait nor raise."""
        self._watchers.append(watcher)

    def close(self) -> None:
        """End all listeners."""
        with self._lock:
            self._closed = True
            for song in self._listeners:
                self._wake(song)

    @property
    def closed(self) -> bool:
        """Whether the server stops: nobody is to wait any longer."""
        return self._closed

    def _wake(self, song: str) -> None:
        for loop, woken in self._listeners.get(song, ()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(woken.set)

    def after(self, song: str, last: str) -> list[SongEvent] | None:
        """The events behind the id `last`; None where it is unknown or some behind it are lost."""
        boot, _, number = last.partition("-")
        if boot != self._boot or not number.isdecimal() or len(number) > MAX_DIGITS:
            return None
        seen = int(number)
        with self._lock:
            events = list(self._songs.get(song, ()))
            is_known = bool(events) and self._lost.get(song, 0) <= seen <= self._number
        return [event for event in events if event.number > seen] if is_known else None

    def newest(self) -> int:
        """Number of the newest event of all songs."""
        with self._lock:
            return self._number

    async def listen(self, song: str, last: str, status: dict[str, Any], since: int) -> AsyncIterator[bytes]:
        """Server-sent events: those behind the id `last`, else `status` and those behind number `since`.

        `status` is the song as it was when `since` was the newest event; where it had ended, `done` follows.
        Ends when the hub is closed.
        """
        missed = self.after(song, last)
        if missed is None:
            yield self._text(SongEvent(since, "status", status))
        else:
            since = int(last.partition("-")[2])
        owes_done = status["status"] in ENDED
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._listeners.setdefault(song, []).append(entry)
        try:
            while True:
                entry[1].clear()
                with self._lock:
                    closed = self._closed
                    events = [each for each in self._songs.get(song, ()) if each.number > since]
                for event in events:
                    since = event.number
                    yield self._text(event)
                if owes_done and all(event.kind != "done" for event in events):
                    facts = {"status": status["status"], "error": status.get("error")}
                    yield self._text(SongEvent(since, "done", facts))
                owes_done = False
                if closed:
                    return
                try:
                    await asyncio.wait_for(entry[1].wait(), PING_SECONDS)
                except TimeoutError:
                    yield b": ping\n\n"
        finally:
            with self._lock:
                self._listeners[song].remove(entry)
                if not self._listeners[song]:
                    del self._listeners[song]

    def _text(self, event: SongEvent) -> bytes:
        data = json.dumps(event.data, ensure_ascii=False)
        return f"id: {self._boot}-{event.number}\nevent: {event.kind}\ndata: {data}\n\n".encode()
