"""Work of a node in a thread of its own, with ComfyUI's progress bar and its Cancel button."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import comfy.model_management
import comfy.utils

T = TypeVar("T")
STEPS = 10_000
"""Steps of a whole progress bar."""
POLL_SECONDS = 0.05
"""Seconds between two looks at the Cancel button."""
LOG = logging.getLogger("yuegguf")


class Link:
    """Connection between a node and its work: progress one way, the request to stop the other."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.share = 0.0
        """Share of the work that is done, 0 to 1."""

    def report(self, share: float) -> None:
        """Note how much is done; never less than before."""
        self.share = max(self.share, min(share, 1.0))

    def warn(self, text: str) -> None:
        """Log a warning."""
        LOG.warning("%s", text)


Work = Callable[[Link], T]


def run_work(work: Work[T]) -> T:
    """Do work in a thread and show its progress. Raises what it raises.

    When the user cancels, the work is asked to stop, and ComfyUI's exception is raised once it has ended:
    only then may the same inputs be queued again.
    """
    running, bar, shown = _Running(work), comfy.utils.ProgressBar(STEPS), -1
    running.start()
    try:
        while not running.ended.wait(POLL_SECONDS):
            comfy.model_management.throw_exception_if_processing_interrupted()
            if (step := round(STEPS * running.link.share)) != shown:
                bar.update_absolute(step, STEPS)
                shown = step
    except BaseException:
        running.link.stop.set()
        raise
    finally:
        running.join()
    result = running.result()
    bar.update_absolute(STEPS, STEPS)
    return result


class _Running(threading.Thread, Generic[T]):
    """A thread with the outcome of its work."""

    def __init__(self, work: Work[T]) -> None:
        super().__init__(name="yuegguf", daemon=True)
        self.link, self.ended = Link(), threading.Event()
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._work(self.link))
        except BaseException as error:  # raised again where the node waits
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]
