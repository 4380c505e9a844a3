"""Forecasts of songs in processes of their own: timing a step opens the models, and the server holds none."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from yuegguf.errors import NotEnoughMemory, YueError, explained
from yuegguf.measure.forecast import forecast
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning import hardware
from yuegguf.server.problems import HttpProblem

MOST_CHECKS = 4
"""Forecasts that may be asked for at once; one is made after the other."""
MOST_SECONDS = 300.0
"""Most seconds of one."""
END_SECONDS = 10.0
"""Most seconds that its process has to end after its answer; then it is killed."""
RETRY_SECONDS = 10

MakeForecast = Callable[[SongJob], dict[str, Any]]
"""A song → the JSON object of its forecast. Raises YueError."""


def forecast_json(job: SongJob) -> dict[str, Any]:
    """The forecast of a song, made in this process. Raises YueError."""
    return forecast(job).to_json()


def send_forecast(link: Connection, job: SongJob) -> None:
    """Be a process that makes one forecast and sends it, or the YueError that it ended in."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches it too: the server decides
    hardware.give_way()
    try:
        found: dict[str, Any] | YueError = forecast_json(job)
    except Exception as error:
        found = explained(error)
    with suppress(OSError):  # the server is gone
        link.send(found)


class ForecastProcesses:
    """Makes each forecast in a process that ends with it."""

    def __init__(self, main: Callable[[Connection, SongJob], None] = send_forecast) -> None:
        """`main` is the function that a process runs."""
        self._main, self._asked, self._turn = main, threading.Semaphore(MOST_CHECKS), threading.Lock()

    def __call__(self, job: SongJob) -> dict[str, Any]:
        """The forecast of a song. Raises YueError, HttpProblem 429 where too many are asked for."""
        if not self._asked.acquire(blocking=False):
            raise HttpProblem(
                429,
                "busy",
                f"{MOST_CHECKS} songs are being checked already",
                "try again in some seconds",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        try:
            with self._turn:
                found = self._made(job)
        finally:
            self._asked.release()
        if isinstance(found, YueError):
            raise found
        return found

    def _made(self, job: SongJob) -> dict[str, Any] | YueError:
        context = multiprocessing.get_context("spawn")
        link, there = context.Pipe(duplex=False)
        process = context.Process(target=self._main, args=(there, job), name="yuegguf-check", daemon=True)
        process.start()
        there.close()
        found: dict[str, Any] | YueError | None = None
        is_late = False
        with link, suppress(EOFError, OSError):
            if link.poll(MOST_SECONDS):
                found = link.recv()
            else:
                is_late = True
        process.join(0.0 if is_late else END_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        if is_late:
            return HttpProblem(
                503,
                "check_took_too_long",
                f"the check of the song was stopped after {MOST_SECONDS:g} seconds",
                "try again while the machine does less, or generate the song without a check",
            )
        if found is not None:
            return found
        return NotEnoughMemory(
            f"the process that checks the song ended early (code {process.exitcode})",
            "look for a lack of memory, or generate the song without a check",
        )
