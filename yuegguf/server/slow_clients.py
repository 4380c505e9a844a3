"""Connections whose client sends nothing, or a request's head byte by byte, are closed in bounded time."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0
"""Seconds after which a connection without a request in work is closed; at most twice as many pass."""


class TimedProtocol(H11Protocol):
    """uvicorn's protocol, which has no such limit by itself."""

    _seen: object = None
    """The request that was the newest at the last look."""
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(transport)
        self._next_look = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection if no request was begun since the last look and none is in work."""
        newest = self.cycle
        if newest is self._seen and (newest is None or newest.response_complete):
            self.transport.close()
            return
        self._seen = newest
        self._next_look = self.loop.call_later(HEAD_SECONDS, self._look)
