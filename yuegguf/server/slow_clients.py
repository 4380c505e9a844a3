"""Connections whose client sends nothing, a request's head byte by byte, or takes no answer, are closed in
bounded time.

uvicorn asks for the next part of an answer, such as an event or 64 KiB of a file, once less than 64 KiB wait
to be sent. So a client that takes nothing holds that much, one part and SEND_BUFFER_BYTES, and not for ever.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0
"""Seconds after which a connection without a request in work is closed; at most twice as many pass."""
TAKE_SECONDS = 60.0
"""Seconds after which a connection is closed whose client takes nothing of what waits; at most twice as many
pass."""
SEND_BUFFER_BYTES = 256 << 10
"""Bytes that the system is asked to keep for a client; it would grow to megabytes by itself."""
DISCARD = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Option of a socket that what the client has not taken is thrown away when it is closed."""


class CountingTransport:
    """A connection that counts what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._written = transport, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write bytes."""
        self._written += len(data)
        self._transport.write(data)

    @property
    def waiting(self) -> int:
        """Bytes that wait to be sent."""
        return self._transport.get_write_buffer_size()

    @property
    def taken(self) -> int:
        """Bytes that were sent."""
        return self._written - self.waiting

    def discard(self) -> None:
        """Close the connection at once; what waits is thrown away, by the system too."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DISCARD)
        self._transport.abort()


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, which has no such limits by itself."""

    _counted: CountingTransport
    _seen: object = None
    """The request that was the newest at the last look."""
    _next_look: asyncio.TimerHandle | None = None
    _next_look_at_taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        self._counted = counted = CountingTransport(transport)
        super().connection_made(counted)  # type: ignore[arg-type]  # it has all that a transport has
        self._next_look = self.loop.call_later(HEAD_SECONDS, self._look)
        self._next_look_at_taking = self.loop.call_later(TAKE_SECONDS, self._look_at_taking, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        for look in (self._next_look, self._next_look_at_taking):
            if look is not None:
                look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection if no request was begun since the last look and none is in work."""
        newest = self.cycle
        if newest is self._seen and (newest is None or newest.response_complete):
            self.transport.close()
            return
        self._seen = newest
        self._next_look = self.loop.call_later(HEAD_SECONDS, self._look)

    def _look_at_taking(self, before: int | None) -> None:
        """Close the connection if bytes waited at the last look too and none was taken since.

        `before` is how many were taken then, None where none waited. It goes on after the connection's end,
        which waits for the client: without a limit that would last for ever.
        """
        taken = self._counted.taken if self._counted.waiting else None
        if taken is not None and taken == before:
            self._counted.discard()
            return
        self._next_look_at_taking = self.loop.call_later(TAKE_SECONDS, self._look_at_taking, taken)
