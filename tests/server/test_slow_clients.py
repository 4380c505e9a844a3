"""Clients that take nothing of their answers: they hold little, and not for ever."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving_client import WAIT, Client, Idle, served
from uvicorn import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

from yuegguf.server import slow_clients
from yuegguf.server.slow_clients import TAKE_SECONDS, CountingTransport, TimedProtocol

LARGE = 16 << 20
"""Bytes of a file, far more than the system keeps on both sides."""
EVENT = 1 << 20
"""Bytes of an event."""


class Loop:
    """A loop whose later calls are made by hand."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def call_later(self, seconds: float, call: Callable[..., None], *args: Any) -> Any:
        self.later.append((seconds, call, args))
        return asyncio.Handle(call, args, self)  # type: ignore[arg-type]

    def get_debug(self) -> bool:
        return False

    def look_at_taking(self) -> None:
        """Make the newest call that is due after TAKE_SECONDS."""
        call, args = [(call, args) for seconds, call, args in self.later if seconds == TAKE_SECONDS][-1]
        call(*args)


class Transport:
    """A connection of which the client takes bytes by hand."""

    def __init__(self) -> None:
        self.waiting, self.closed, self.aborted = 0, False, False

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def connection() -> tuple[TimedProtocol, Loop, Transport]:
    loop, transport = Loop(), Transport()
    protocol = TimedProtocol(Config(lambda scope: None), ServerState(), {}, loop)  # type: ignore[arg-type]
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, loop, transport


def test_a_client_that_takes_a_little_is_kept(connection: tuple[TimedProtocol, Loop, Transport]) -> None:
    protocol, loop, transport = connection
    for _ in range(5):  # nothing waits
        loop.look_at_taking()
    protocol.transport.write(bytes(100))
    loop.look_at_taking()  # it may have begun to wait in this moment
    for _ in range(50):
        transport.waiting -= 1
        loop.look_at_taking()
    transport.waiting -= 10
    protocol.transport.write(bytes(10))  # as much waits as before, and some was taken
    loop.look_at_taking()
    assert not transport.aborted
    loop.look_at_taking()
    assert transport.aborted


def test_more_that_waits_is_not_taken(connection: tuple[TimedProtocol, Loop, Transport]) -> None:
    protocol, loop, transport = connection
    protocol.transport.write(bytes(100))
    loop.look_at_taking()
    protocol.transport.write(bytes(8))
    loop.look_at_taking()
    assert transport.aborted


def test_an_end_that_waits_for_the_client_ends(connection: tuple[TimedProtocol, Loop, Transport]) -> None:
    protocol, loop, transport = connection
    protocol.transport.write(bytes(100))
    protocol.transport.close()
    assert transport.closed
    loop.look_at_taking()
    loop.look_at_taking()
    assert transport.aborted


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the server has closed a connection of which nothing was taken."""
    found, discard = threading.Event(), CountingTransport.discard

    def note(counted: CountingTransport) -> None:
        discard(counted)
        found.set()

    monkeypatch.setattr(CountingTransport, "discard", note)
    monkeypatch.setattr(slow_clients, "TAKE_SECONDS", 0.2)
    return found


@pytest.fixture
def most_waiting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that waited after each write."""
    found: list[int] = []
    write = CountingTransport.write

    def note(counted: CountingTransport, data: bytes) -> None:
        write(counted, data)
        found.append(counted.waiting)

    monkeypatch.setattr(CountingTransport, "write", note)
    return found


def asked(client: Client, path: str) -> socket.socket:
    """A connection whose client has asked for something and takes nothing."""
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.settimeout(WAIT)
    opened.connect(("127.0.0.1", client.port))
    opened.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    return opened


def received(connection: socket.socket) -> int:
    """Bytes that arrive before the connection is cut, which is no orderly end."""
    count = 0
    with connection:
        try:
            while part := connection.recv(1 << 20):
                count += len(part)
        except ConnectionResetError:
            return count
    raise AssertionError(f"an orderly end after {count} bytes")


def test_a_download_that_nobody_takes_is_closed(
    tmp_path: Path, closed: threading.Event, most_waiting: list[int]
) -> None:
    with served(tmp_path / "songs", Idle()) as client:
        song = client.create()
        with (client.songs / song / "mix.wav").open("wb") as file:
            file.truncate(LARGE)
        connection = asked(client, f"/v1/songs/{song}/audio/mix.wav")
        assert closed.wait(WAIT)
        assert received(connection) < LARGE // 2
        assert max(most_waiting) <= 2 * HIGH_WATER_LIMIT
        assert client("GET", f"/v1/songs/{song}/audio/mix.wav").body == bytes(LARGE)


def test_a_listener_that_takes_nothing_is_closed(
    tmp_path: Path, closed: threading.Event, most_waiting: list[int]
) -> None:
    idle = Idle()
    with served(tmp_path / "songs", idle) as client:
        song = client.create()
        client.wait(song, "processing")
        connection = asked(client, f"/v1/songs/{song}/events")
        assert connection.recv(12) == b"HTTP/1.1 200"  # it listens from now on
        for _ in range(20):
            idle.started[0].say("step", song=song, kind="section", facts={"text": "x" * EVENT})
        assert closed.wait(WAIT)
        assert received(connection) < 10 * EVENT
        assert max(most_waiting) <= HIGH_WATER_LIMIT + EVENT + 4096
        client("POST", f"/v1/songs/{song}/cancel")
        assert client.wait(song, "canceled")["queue"] is None  # by events that are taken
