"""Worker processes as the server sees them."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Protocol

from yuegguf.server.worker import WorkerFacts, run_worker

STOP_SECONDS = 30.0
"""Most seconds that a worker has to stop; then it is killed, which loses nothing."""
NUMBERS = itertools.count(1)
Deliver = Callable[[dict[str, Any]], None]
WorkerMain = Callable[[Connection, WorkerFacts], None]


class WorkerLink(Protocol):
    """A worker and the way to it: whatever generates songs, with the messages of `worker`."""

    @property
    def number(self) -> int:
        """Number that its messages carry as "worker"."""

    @property
    def pid(self) -> int | None:
        """Its process id, or None."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; one that arrives at an ended process is lost, which is reported as its end."""

    def stop(self) -> None:
        """Ask it to stop at the next token, and wait until it has; all its messages are delivered then."""


StartWorker = Callable[[WorkerFacts, Deliver], WorkerLink]
"""Starts a worker whose messages are delivered, {"event": "died", "code": …} as the last one."""


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, facts: WorkerFacts, deliver: Deliver, main: WorkerMain = run_worker) -> None:
        """Start it; `main` is the function that it runs."""
        context = multiprocessing.get_context("spawn")
        self._link, there = context.Pipe()
        self._process = context.Process(target=main, args=(there, facts), name="yuegguf-worker", daemon=True)
        self._process.start()
        there.close()
        self._number, self._deliver = next(NUMBERS), deliver
        self._reader = threading.Thread(target=self._read, name="worker-messages", daemon=True)
        self._reader.start()

    @property
    def number(self) -> int:
        """Number of the process, which its messages carry."""
        return self._number

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; see WorkerLink."""
        with suppress(OSError):
            self._link.send_bytes(json.dumps(message).encode())

    def stop(self) -> None:
        """Ask it to stop at the next token, and wait; kills it after STOP_SECONDS."""
        self.send({"do": "stop"})
        self._process.join(STOP_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._reader.join(STOP_SECONDS)
        self._link.close()

    def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._deliver({**json.loads(self._link.recv_bytes()), "worker": self._number})
        self._process.join()
        self._deliver({"event": "died", "code": self._process.exitcode, "worker": self._number})
