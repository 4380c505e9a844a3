"""A receiver of webhooks on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

WAIT = 15.0


class Receiver:
    """The requests that came, and the statuses with which the next ones are answered; then 200."""

    def __init__(self) -> None:
        self.bodies: Queue[Any] = Queue()
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.location = ""
        self.url = ""

    def next(self) -> Any:
        """The next request's JSON."""
        return self.bodies.get(timeout=WAIT)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver that answers until the block ends."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.bodies.put(json.loads(body))  # before the answer, after which a test may look
            self.send_response(state.statuses.pop(0) if state.statuses else 200)
            if state.location:
                self.send_header("location", state.location)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join(WAIT)
        server.server_close()
