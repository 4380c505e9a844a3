"""The driver's side of Ray, with a Ray that only notes what it is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from yuegguf.cluster import ray_backend
from yuegguf.cluster.ray_backend import RayBackend


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    def remote(**options: Any) -> Callable[[Any], Any]:
        return lambda function: function

    fake = SimpleNamespace(remote=remote)
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


@pytest.mark.usefixtures("ray")
def test_a_driver_without_units_waits_for_songs_instead_of_asking_at_once_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(ray_backend.time, "sleep", waited.append)
    assert RayBackend().wait(0.75) == []
    assert waited == [0.75]
