"""A worker process that llama.cpp ends: it says why before it is gone."""

from __future__ import annotations

import ctypes
import queue
from multiprocessing.connection import Connection
from typing import Any

import pytest

from yuegguf.lm.ggml import library_of
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.server import worker
from yuegguf.server.worker import WorkerFacts
from yuegguf.server.worker_process import WorkerProcess

pytestmark = pytest.mark.engine


class AbortingWorker(worker.Worker):
    """A worker in which llama.cpp fails."""

    def run(self) -> None:
        """Call ggml's own way to end a process."""
        from yuegguf.lm.loading import LIBRARIES, init_backend

        init_backend()
        ctypes.CDLL(str(library_of(LIBRARIES, "ggml_abort"))).ggml_abort(b"/src/ggml.c", 7, b"no memory")


def aborting(link: Connection, facts: WorkerFacts) -> None:
    """Run such a worker."""
    worker.Worker = AbortingWorker  # type: ignore[misc]
    worker.run_worker(link, facts)


def test_a_worker_that_llama_cpp_ends_says_why() -> None:
    messages: queue.Queue[dict[str, Any]] = queue.Queue()
    WorkerProcess(WorkerFacts(ComputeOptions(), 1), messages.put, aborting)
    last, died = messages.get(timeout=120), messages.get(timeout=120)
    assert last["error"]["message"] == "llama.cpp gave up (ggml.c:7: no memory)"
    assert (last["event"], died["event"], died["code"]) == ("gave up", "died", 1)
