"""A machine that other programs use, and what a forecast makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from yuegguf.measure import machine_load as module
from yuegguf.measure.machine_load import MachineLoad, machine_load
from yuegguf.planning import hardware


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Four cores without load; a test changes its facts."""
    facts = {"load": 0.0, "bandwidth": 2e10, "battery": 0.0}
    monkeypatch.setattr(hardware, "physical_cores", lambda: 4)
    monkeypatch.setattr(hardware, "on_battery", lambda: bool(facts["battery"]))
    monkeypatch.setattr(hardware, "runnable_processes", lambda: facts["load"])
    monkeypatch.setattr(module, "bandwidth", lambda _threads, _size: facts["bandwidth"])
    return facts


def test_an_idle_machine_is_as_fast_as_it_was_measured(machine: dict[str, float], tmp_path: Path) -> None:
    assert machine_load(4, tmp_path / "b.json") == MachineLoad()
    machine["bandwidth"] = 1.8e10
    assert machine_load(4, tmp_path / "b.json") == MachineLoad()


def test_other_programs_take_their_share_of_the_cores(machine: dict[str, float], tmp_path: Path) -> None:
    machine["load"] = 4.0
    assert machine_load(4, tmp_path / "b.json") == MachineLoad(2.0, ("other programs use 4.0 of 4 cores",))
    machine["load"] = 1.0
    assert machine_load(4, tmp_path / "d.json") == MachineLoad()


def test_memory_slower_than_it_was_is_noticed(machine: dict[str, float], tmp_path: Path) -> None:
    machine_load(4, tmp_path / "b.json")
    machine["bandwidth"] = 0.5e10
    load = machine_load(4, tmp_path / "b.json")
    assert load == MachineLoad(4.0, ("memory is 4.0 times slower than it was measured before",))
    machine["bandwidth"] = 2e10  # the best is remembered, not the last
    assert machine_load(4, tmp_path / "b.json") == MachineLoad()


def test_a_battery_is_noticed(machine: dict[str, float], tmp_path: Path) -> None:
    machine["battery"] = 1.0
    assert machine_load(4, tmp_path / "b.json").notices == (
        "the machine runs on its battery, which may slow it down",
    )
