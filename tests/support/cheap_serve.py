"""The program whose `serve` has a worker with cheap engines: `python -m cheap_serve serve …`."""

from __future__ import annotations

import os
import signal
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import cheap

from yuegguf.server import serving
from yuegguf.server.forecasting import forecast_json
from yuegguf.server.worker import WorkerFacts, run_worker
from yuegguf.server.worker_process import Deliver, WorkerProcess


def worker_main(link: Connection, facts: WorkerFacts) -> None:
    """Be a worker process with them."""
    cheap.install(setattr)
    run_worker(link, facts)


start_worker: Any = partial(WorkerProcess, main=worker_main)


class Processes:
    """Starts worker processes with cheap engines, and can kill the first."""

    def __init__(self) -> None:
        self.pids: list[int | None] = []

    def __call__(self, facts: WorkerFacts, deliver: Deliver) -> Any:
        worker = start_worker(facts, deliver)
        self.pids.append(worker.pid)
        return worker

    def kill_first(self) -> None:
        assert self.pids[0] is not None
        os.kill(self.pids[0], signal.SIGKILL)


def main() -> None:
    """Run the command line of this process."""
    plain = serving.serve

    def serve(*args: Any) -> None:
        plain(*args, start=start_worker, make_forecast=forecast_json)

    serving.serve = serve  # type: ignore[assignment]
    cheap.main()


if __name__ == "__main__":
    main()
