"""Webhooks: POST requests that tell a client's server what became of its song."""

from __future__ import annotations

import contextlib
import heapq
import http.client
import itertools
import json
import queue
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from yuegguf import __version__
from yuegguf.server.problems import HttpProblem
from yuegguf.server.webhook_address import WebhookUrl, parse_webhook, public_address

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
"""Most seconds of one delivery, however slowly the other side answers."""
RETRY_SECONDS = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before each further try of the last notice of a song; others are tried once."""
SENDERS = 4
MOST_WAITING = 1000
"""Notices that wait to be sent; beyond them, those that are not the last of a song are left out."""
AGAIN = {408, 425, 429}
"""Statuses besides 5xx after which another try may succeed."""


MakeBody = Callable[[], dict[str, Any] | None]
"""Makes the JSON of a notice; None = the song is gone, and nothing is sent. May raise anything."""


@dataclass(frozen=True)
class Notice:
    """A webhook's request."""

    song: str
    url: str
    last: bool
    """Whether it is the last one of its song, which is tried again."""
    body: bytes = b""
    tries: int = 0


class Undelivered(Exception):
    """A delivery that failed, with its reason."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again
        """Whether another try may succeed."""


Ended = Callable[[Notice, str], None]
"""Called once a notice needs no further try, with the reason if it should have been delivered and was not."""


class Webhooks:
    """Threads that send notices; those of a song are sent in their order, apart from further tries."""

    def __init__(self, allowed: tuple[str, ...], ended: Ended) -> None:
        """`allowed` are hosts that need not be public."""
        self._allowed, self._ended = allowed, ended
        self._inbox: queue.SimpleQueue[tuple[Notice, MakeBody] | None] = queue.SimpleQueue()
        self._due: list[tuple[float, int, Notice, MakeBody]] = []
        """Notices with the time of their next try."""
        self._numbers = itertools.count()
        self._senders = [ThreadPoolExecutor(1, thread_name_prefix="webhook") for _ in range(SENDERS)]
        self._waiting, self._lock, self._stopped = 0, threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def send(self, notice: Notice, body: MakeBody) -> None:
        """Send a notice soon. Any thread may call it; it never waits."""
        self._inbox.put((notice, body))

    def stop(self) -> None:
        """Send nothing more; last notices that are not delivered are sent by the next server."""
        self._stopped = True
        self._inbox.put(None)
        self._thread.join()
        for sender in self._senders:
            sender.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        while True:
            rest = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            with contextlib.suppress(queue.Empty):
                message = self._inbox.get(timeout=rest)
                if message is None:
                    return
                notice, make = message
                seconds = RETRY_SECONDS[notice.tries - 1] if notice.tries else 0.0
                heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), notice, make))
            while self._due and self._due[0][0] <= time.monotonic():
                self._take(*heapq.heappop(self._due)[2:])

    def _take(self, notice: Notice, make: MakeBody) -> None:
        """Hand a notice to its sender, with its body if it has none yet."""
        if notice.body:
            self._hand_over(notice)
            return
        try:
            body = make()
            data = b"" if body is None else json.dumps(body).encode()
        except Exception as error:  # this thread goes on whatever one song's folder holds
            self._fail(notice, make, f"the song cannot be read ({type(error).__name__})", again=True)
            return
        if data:
            self._hand_over(replace(notice, body=data))
        else:
            self._end(notice, "")

    def _fail(self, notice: Notice, make: MakeBody, reason: str, *, again: bool) -> None:
        """Try a notice again later if it may be, or end it."""
        if again and notice.last and notice.tries < len(RETRY_SECONDS):
            self.send(replace(notice, tries=notice.tries + 1), make)
        else:
            self._end(notice, reason)

    def _end(self, notice: Notice, reason: str) -> None:
        with contextlib.suppress(Exception):  # no other notice is lost with this one
            self._ended(notice, reason)

    def _hand_over(self, notice: Notice) -> None:
        with self._lock:
            if self._waiting >= MOST_WAITING and not notice.last:
                return
            self._waiting += 1
        self._senders[zlib.crc32(notice.song.encode()) % SENDERS].submit(self._deliver, notice)

    def _deliver(self, notice: Notice) -> None:
        with self._lock:
            self._waiting -= 1
        if self._stopped:
            return
        try:
            post(notice.url, notice.body, self._allowed)
        except Undelivered as failure:
            self._fail(notice, lambda: None, str(failure), again=failure.again)
        else:
            self._end(notice, "")


def post(text: str, body: bytes, allowed: tuple[str, ...] = ()) -> None:
    """Send a JSON body to a URL; no redirect is followed and no proxy is used. Raises Undelivered."""
    try:
        url = parse_webhook(text, allowed)
        address = public_address(url, allowed)
        status = _status_of(url, address, body)
    except HttpProblem as problem:
        raise Undelivered(problem.message, again=False) from problem
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Undelivered(f"no answer ({type(error).__name__})", again=True) from error
    if not 200 <= status < 300:
        raise Undelivered(f"answered with status {status}", again=status >= 500 or status in AGAIN)


def _status_of(url: WebhookUrl, address: str, body: bytes) -> int:
    """The status of the answer to a POST to this address."""
    opened = socket.create_connection((address, url.port), CONNECT_SECONDS)
    connection = http.client.HTTPConnection(url.host, url.port)
    watch = threading.Timer(TOTAL_SECONDS, lambda: _cut(opened))  # trickling bytes would never time out
    watch.daemon = True
    try:
        opened.settimeout(TOTAL_SECONDS)
        if url.scheme == "https":
            context = ssl.create_default_context()
            opened = context.wrap_socket(opened, server_hostname=url.host, do_handshake_on_connect=False)
        watch.start()
        if isinstance(opened, ssl.SSLSocket):
            opened.do_handshake()
        connection.sock = opened
        headers = {
            "Host": url.host_header,
            "Content-Type": "application/json",
            "User-Agent": f"yuegguf/{__version__}",
            "Connection": "close",
        }
        connection.request("POST", url.target, body, headers)
        return connection.getresponse().status
    finally:
        watch.cancel()
        connection.close()
        opened.close()


def _cut(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
