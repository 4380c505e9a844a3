"""The server's process: its socket, uvicorn, and a stop that keeps every song."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn

from yuegguf.errors import RequestError, StorageError
from yuegguf.server.app import make_app
from yuegguf.server.forecasting import MakeForecast
from yuegguf.server.service import Service
from yuegguf.server.settings import Settings
from yuegguf.server.slow_clients import SEND_BUFFER_BYTES, TimedProtocol
from yuegguf.server.worker_process import StartWorker, WorkerProcess

BACKLOG = 128
GRACE_SECONDS = 2
"""Seconds that open connections have to end."""
PROBE_SECONDS = 5.0


class _Server(uvicorn.Server):
    """uvicorn that ends when an event is set; signals are the caller's."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event, ended: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop, self._ended = stop, ended

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals' handlers as they are."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Whether the server is to end."""
        if self._stop.is_set():
            self._ended()
            return True
        return await super().on_tick(counter)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises RequestError for an address that is not here, StorageError for a taken port.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise RequestError(f"{host!r:.80} is no address of this machine", "use --host 127.0.0.1") from error
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # inherited
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            holder = _holder(host, port)
            raise StorageError(f"port {port} is taken by {holder}", "use --port 0 for a free one") from error
        raise RequestError(
            f"the server cannot listen on {host}:{port} ({error.strerror})", "use --host 127.0.0.1"
        ) from error
    return opened


def _holder(host: str, port: int) -> str:
    """The program that listens on a port, for people."""
    try:
        connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            facts = json.loads(connection.getresponse().read(4096))
            return f"another yuegguf serve ({facts['version']})"
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, RecursionError):
        return "another program"


def serve(
    settings: Settings,
    listening: socket.socket,
    stop: threading.Event,
    ready: Callable[[], None] = lambda: None,
    start: StartWorker = WorkerProcess,
    *,
    make_forecast: MakeForecast | None = None,
) -> None:
    """Serve until `stop` is set; `ready` is called once requests are answered.

    `start` starts a worker, `make_forecast` checks a song. Raises YueError where the folder cannot be served.
    """
    service = Service(settings, start, make_forecast)
    try:
        app = make_app(service)
    except BaseException:
        service.close()
        raise
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        log_level="critical",
        access_log=False,  # a token stands in URLs
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        proxy_headers=False,
    )
    server = _Server(config, stop, service.hub.close)
    service.start()
    try:
        ready()
        server.run(sockets=[listening])
    finally:
        service.stop()
