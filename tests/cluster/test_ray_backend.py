"""Ray as a driver and a unit ask it, with a Ray of three machines that computes at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cluster import OPTIONS

from yuegguf.cluster import ray_backend
from yuegguf.cluster.ray_backend import NODE_LABEL, RayBackend, RayHelpers
from yuegguf.cluster.spreading import Job, JobReport, SongPart, StemJob
from yuegguf.cluster.unit import Control, ErrorFacts, Loss, ModelPlaces, Need, Report, Unit
from yuegguf.errors import Interrupted

NEED = Need(2.0, 1000, 0.5)
PART = SongPart("song", Control("control", "token"), OPTIONS, ModelPlaces())
JOBS: list[Job] = [StemJob(PART, np.zeros((2, 8, 1), np.int16), row) for row in (0, 1)]
UNIT = Unit("driver/1", "draft", ())


@dataclass(eq=False)
class Reference:
    """A result."""

    value: object


class FakeRay:
    """Machines a, b and c; a task runs on the first that its label selector allows."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        """Options of each kind of task."""
        self.cancelled: list[Reference] = []
        self.pending = False
        """Whether tasks never end."""
        self._node = ""

    def remote(self, **options: object) -> Callable[[Callable[..., object]], Any]:
        return lambda run: SimpleNamespace(options=lambda **given: self._tasks(run, given))

    def _tasks(self, run: Callable[..., object], options: dict[str, Any]) -> Any:
        self.asked.append(options)
        refused = options.get("label_selector", {}).get(NODE_LABEL, "!in()")[len("!in(") : -1].split(",")
        node = next(node for node in "abc" if node not in refused)

        def start(*values: object) -> Reference:
            self._node = node
            return Reference(None if self.pending else run(*values))

        return SimpleNamespace(remote=start)

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "NodeManagerHostname": f"host-{name}", "Alive": True, "Resources": {"CPU": 1.0}}
            for name in "abc"
        ]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: self._node)

    def wait(
        self, waiting: list[Reference], num_returns: int, timeout: float
    ) -> tuple[list[Reference], list[Reference]]:
        return ([], waiting) if self.pending else (waiting[:num_returns], waiting[num_returns:])

    def get(self, reference: Reference) -> object:
        return reference.value

    def cancel(self, reference: Reference, *, force: bool) -> None:
        self.cancelled.append(reference)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def answers(
    check: Callable[[], None] = lambda: None, refused: tuple[str, ...] = ()
) -> list[tuple[int, JobReport | Loss]]:
    """Reports of both stems, whose answers are their rows."""
    helpers = RayHelpers(lambda job: job.row)  # type: ignore[union-attr]
    return list(helpers.answers(JOBS, NEED, refused, check))


@pytest.mark.usefixtures("ray")
def test_a_driver_without_units_waits_for_songs_instead_of_asking_at_once_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(ray_backend.time, "sleep", waited.append)
    assert RayBackend().wait(0.75) == []
    assert waited == [0.75]


def test_units_and_parts_ask_for_what_they_need_and_go_to_no_refused_machine(ray: FakeRay) -> None:
    backend = RayBackend(run=lambda unit, node, name, helpers: Report(node, ()))
    for refused in ((), ("b", "a")):
        backend.submit(UNIT, NEED, refused)
        assert [report for _, report in backend.wait(0.0)] == [Report("c" if refused else "a", ())]
        node = "c" if refused else "a"
        assert answers(refused=refused) == [(0, JobReport(node, 0)), (1, JobReport(node, 1))]
    asked = {"num_cpus": 2.0, "memory": 1000, "num_gpus": 0.5}
    for options, name, selector in zip(
        ray.asked,
        ("yuegguf draft driver/1", "yuegguf part") * 2,
        (None, None, *({NODE_LABEL: "!in(a,b)"},) * 2),
        strict=True,
    ):
        assert options == {**asked, "name": name, **({"label_selector": selector} if selector else {})}


def test_parts_for_which_nobody_waits_are_ended(ray: FakeRay) -> None:
    ray.pending, looks = True, []

    def check() -> None:
        looks.append(len(ray.cancelled))
        if len(looks) == 3:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        answers(check)
    assert (looks, len(ray.cancelled)) == ([0, 0, 0], len(JOBS))


def test_a_machine_with_another_version_computes_no_part(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ray_backend._part_on_node
    monkeypatch.setattr(ray_backend, "_part_on_node", lambda run, job, _: plain(run, job, "0.0.1"))
    ((_, first), _) = answers()
    assert isinstance(first, JobReport)
    assert isinstance(first.answer, ErrorFacts)
    assert (first.node, "the driver 0.0.1" in first.answer.message) == ("a", True)


def test_a_machine_that_does_not_answer_is_asked_once(ray: FakeRay) -> None:
    """A process that waits for a storage for ever would else be left there by each question."""
    backend, control = RayBackend(), Control("nowhere", "token")
    ray.pending = True
    for _ in range(3):
        found = backend.check(control, ("a", "b"))
        assert found == {"a": "host-a does not answer", "b": "host-b does not answer"}
    assert len(ray.asked) == 2
    ray.pending = False
    assert "does not answer" not in str(backend.check(control, ("c",)))
    backend.check(control, ("a",))  # the answer to the question of then
    assert len(ray.asked) == 3
    assert "does not see the folder of songs" in backend.check(control, ("a",))["a"]
    assert len(ray.asked) == 4
