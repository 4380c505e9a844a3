"""Ray: the machines of a cluster, and units that run on them once. The only module that imports it."""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from yuegguf import __version__
from yuegguf.cluster.control import check_control
from yuegguf.cluster.spreading import Answer, Helpers, Job, JobReport, run_job
from yuegguf.cluster.unit import Control, Loss, Need, Node, Outcome, Report, Unit, error_facts
from yuegguf.cluster.work import run_unit
from yuegguf.errors import RequestError, YueError

INSTALL_HINT = "install it with: pip install 'yuegguf[cluster]'"
NODE_LABEL = "ray.io/node-id"
"""Label of every machine, which Ray sets to its id."""
RAY_THREADS = "ray_"
"""Beginning of the names of Ray's threads."""
WAIT_SECONDS = 1.0
"""Seconds between two looks whether a song is to be stopped."""
CHECK_SECONDS = 60.0
"""Most seconds that a machine has to say whether it sees the storage."""
AGAIN_SECONDS = 5.0
"""Most seconds that it has where it is asked once more, while songs wait."""
RunUnit = Callable[[Unit, str, str, Helpers], Report]
RunJob = Callable[[Job], Answer]


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to a Ray cluster: "auto", "ray://HOST:PORT", "HOST:PORT", or "local" for one here.

    Raises RequestError where Ray is not installed or no cluster answers.
    """
    ray = _ray()
    with redirect_stdout(_WithoutRay(sys.stdout)):
        yield from _connected(ray, address)


class _WithoutRay:
    """A stream that swallows what Ray's own threads print: it may be a result's stdout."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text of any other thread."""
        own = threading.current_thread().name.startswith(RAY_THREADS)
        return len(text) if own else int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _connected(ray: Any, address: str) -> Iterator[None]:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and its own
        reason = " ".join(str(error).split())
        raise RequestError(
            f"no Ray cluster answers at {address!r:.80} ({reason[:200]})",
            "start one with: ray start --head; or pass --cluster local",
        ) from error
    try:
        yield
    finally:
        with redirect_stdout(io.StringIO()):  # it prints the lines that it kept back
            ray.shutdown()


class RayBackend:
    """The machines of the cluster that this process is connected to."""

    def __init__(self, run: RunUnit = run_unit, run_part: RunJob = run_job) -> None:
        """`run` is called on a machine with a unit, the machine's id, its name and the other machines;
        `run_part` on those with a part of a song.
        """
        self._ray = _ray()
        self._remote = self._ray.remote(max_retries=0)(_on_node)
        self._run, self._run_part = run, run_part
        self._units: dict[Any, str] = {}
        """Reference of a result → name of its unit."""
        self._checks: dict[tuple[Control, str], Any] = {}
        """Control folder and id of a machine → reference of the answer that it has not given yet."""

    def nodes(self) -> list[Node]:
        """The machines that are there now."""
        return _nodes(self._ray)

    def submit(self, unit: Unit, need: Need, refused: Collection[str]) -> None:
        """Run a unit once on a machine whose id is not `refused`."""
        options = _options(need, f"yuegguf {unit.phase} {unit.name}", refused)
        reference = self._remote.options(**options).remote(self._run, self._run_part, unit, __version__)
        self._units[reference] = unit.name

    def wait(self, seconds: float) -> list[tuple[str, Report | Loss]]:
        """Names of units that have ended, with what became of them; waits for one at most so long.

        Where there is no unit, it waits all the same, for songs to come.
        """
        waiting = list(self._units)
        if not waiting:
            time.sleep(seconds)
            return []
        ended, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ended:
            ended, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [(self._units.pop(each), _answer(self._ray, each)) for each in ended]

    def kill(self, unit: str) -> None:
        """End a unit at once; `wait` does not tell of it any more."""
        for reference, name in list(self._units.items()):
            if name == unit:
                del self._units[reference]
                with suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(reference, force=True)

    def check(self, control: Control, only: Collection[str] = ()) -> dict[str, str]:
        """Ids of the machines that cannot work on the songs beside a control folder → why.

        `only` are the ids of those that are asked once more, and soon have to answer; empty = all.
        """
        nodes = [node for node in self.nodes() if not only or node.id in only]
        asked = [self._checks.get((control, node.id)) or self._ask(control, node) for node in nodes]
        seconds = AGAIN_SECONDS if only else CHECK_SECONDS
        ended, _ = self._ray.wait(asked, num_returns=len(asked), timeout=seconds) if asked else ([], [])
        found: dict[str, str] = {}
        for reference, node in zip(asked, nodes, strict=True):
            reason = f"{node.name} does not answer"
            if reference in ended:
                del self._checks[control, node.id]
                answer = _answer(self._ray, reference)
                reason = f"{reason} ({answer.reason})" if isinstance(answer, Loss) else answer
            if reason:
                found[node.id] = reason
        return found

    def _ask(self, control: Control, node: Node) -> Any:
        """Ask a machine whether it can work on songs. It is not asked again before it has answered."""
        remote = self._ray.remote(max_retries=0, num_cpus=0)(_check_on_node)
        selector = {NODE_LABEL: node.id}
        self._checks[control, node.id] = remote.options(label_selector=selector).remote(control, __version__)
        return self._checks[control, node.id]


class RayHelpers:
    """The machines of the cluster, for a unit that runs on one."""

    def __init__(self, run: RunJob) -> None:
        self._ray, self._run = _ray(), run

    def nodes(self) -> list[Node]:
        """The machines that are there now."""
        return _nodes(self._ray)

    def answers(
        self, jobs: Sequence[Job], need: Need, refused: Collection[str], check: Callable[[], None]
    ) -> Iterator[tuple[int, JobReport | Loss]]:
        """Number and report of each job, as they end, by machines whose ids are not `refused`.

        Calls `check` every second; what it raises ends the jobs.
        """
        options = _options(need, "yuegguf part", refused)
        remote = self._ray.remote(max_retries=0)(_part_on_node).options(**options)
        waiting = {remote.remote(self._run, job, __version__): number for number, job in enumerate(jobs)}
        try:
            while waiting:
                check()
                for reference in self._ray.wait(list(waiting), num_returns=1, timeout=WAIT_SECONDS)[0]:
                    number = waiting.pop(reference)
                    yield number, _answer(self._ray, reference)
        finally:
            for reference in waiting:
                with suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(reference, force=True)


def _answer(ray: Any, reference: Any) -> Any:
    """The value of a reference, or the Loss of what would have made it."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return Loss(_sentence(error))


def _nodes(ray: Any) -> list[Node]:
    return [
        Node(
            each["NodeID"],
            each["NodeManagerHostname"],
            each["Resources"].get("CPU", 0.0),
            int(each["Resources"].get("memory", 0)),
            each["Resources"].get("GPU", 0.0),
        )
        for each in ray.nodes()
        if each["Alive"]
    ]


def _options(need: Need, name: str, refused: Collection[str]) -> dict[str, Any]:
    """Ray's options for a task of this need, on a machine whose id is not `refused`."""
    options: dict[str, Any] = {"num_cpus": need.cpus, "memory": need.memory, "name": name}
    if need.gpus:
        options["num_gpus"] = need.gpus
    if refused:
        options["label_selector"] = {NODE_LABEL: f"!in({','.join(sorted(refused))})"}
    return options


def _on_node(run: RunUnit, run_part: RunJob, unit: Unit, version: str) -> Report:
    """Run a unit on this machine of the cluster."""
    import ray

    node, name = ray.get_runtime_context().get_node_id(), socket.gethostname()
    if version != __version__:
        other = YueError(_other_version(version), "install the same one")
        return Report(node, tuple(Outcome(s.folder, "unfit", error=error_facts(other)) for s in unit.songs))
    return run(unit, node, name, RayHelpers(run_part))


def _part_on_node(run: RunJob, job: Job, version: str) -> JobReport:
    """Compute a part of a song on this machine of the cluster."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    if version != __version__:
        return JobReport(node, error_facts(YueError(_other_version(version), "install the same one")))
    return JobReport(node, run(job))


def _check_on_node(control: Control, version: str) -> str:
    """Why this machine cannot work on songs beside a control folder; empty if it can."""
    if version != __version__:
        return _other_version(version)
    try:
        check_control(control)
    except YueError as error:
        return f"{socket.gethostname()}: {error.message}"
    return ""


def _other_version(version: str) -> str:
    return f"{socket.gethostname()} has yuegguf {__version__}, the driver {version}"


def _sentence(error: Exception) -> str:
    """The first sentence of one of Ray's errors."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.partition('. ')[0][:200]}"


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        import ray
    except ModuleNotFoundError as error:
        raise RequestError("a cluster needs Ray, which is not installed", INSTALL_HINT) from error
    return ray
