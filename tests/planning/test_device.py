"""Which device is used: what llama.cpp was built for, what it sees, and what the user says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import cli

from yuegguf.cli._compute import wants_gpu
from yuegguf.errors import RequestError
from yuegguf.lm import llama
from yuegguf.pipeline import engines
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions, Devices

GIB = 2**30
NONE = Devices(4)
"""A machine with four cores and no GPU, of which nothing else is known."""
INFO = llama.build_info()


def device(kind: str, free: int) -> dict[str, str | int]:
    memory = {"memory_free": free * GIB, "memory_total": 24 * GIB}
    return {"name": kind.upper(), "description": "", "kind": kind, **memory}


CPU, CARD, SMALL, INTEGRATED = device("cpu", 20), device("gpu", 11), device("gpu", 6), device("igpu", 9)


def devices_of(options: ComputeOptions) -> Devices:
    """What is found on a machine with four cores, whose free memory is unknown."""
    return replace(engines.find_devices(options), cores=4, memory=None)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str | int]]:
    """The devices of a machine whose llama.cpp can use a GPU."""
    found = [CPU]
    monkeypatch.setattr(llama, "devices", lambda: found)
    monkeypatch.setattr(llama, "build_info", lambda: {**INFO, "gpu": "yes"})
    monkeypatch.setattr(hardware, "is_mac", lambda: False)
    return found


def test_a_build_without_gpu_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "build_info", lambda: {**INFO, "gpu": "no"})
    assert devices_of(ComputeOptions()) == NONE


def test_a_gpu_is_used_where_there_is_one_with_all_its_memory(seen: list[dict[str, str | int]]) -> None:
    seen += [CARD, SMALL]
    assert devices_of(ComputeOptions()) == replace(NONE, gpu=True, gpu_memory=17 * GIB)
    assert devices_of(ComputeOptions(main_gpu=1)) == replace(NONE, gpu=True, gpu_memory=6 * GIB)


def test_a_gpu_that_is_not_wanted_is_not_used(seen: list[dict[str, str | int]]) -> None:
    seen.append(CARD)
    for options in (
        ComputeOptions(gpu=False),
        ComputeOptions(gpu_layers=0),
        ComputeOptions(gpu=True, gpu_layers=0),
    ):
        assert devices_of(options) == NONE


def test_integrated_gpus_and_macs_share_the_machines_memory(
    seen: list[dict[str, str | int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen.append(INTEGRATED)
    assert devices_of(ComputeOptions()) == replace(NONE, gpu=True, gpu_memory=9 * GIB, shared_memory=True)
    monkeypatch.setattr(hardware, "is_mac", lambda: True)
    assert devices_of(ComputeOptions()).shared_memory


def test_an_integrated_gpu_beside_a_card_is_neither_counted_nor_named(
    seen: list[dict[str, str | int]],
) -> None:
    seen += [INTEGRATED, CARD]
    assert devices_of(ComputeOptions()) == replace(NONE, gpu=True, gpu_memory=11 * GIB)
    assert devices_of(ComputeOptions(main_gpu=0)) == replace(NONE, gpu=True, gpu_memory=11 * GIB)
    with pytest.raises(RequestError, match="there is no GPU number 1; 1 are seen"):
        devices_of(ComputeOptions(main_gpu=1))


def test_memory_that_cannot_be_read_is_unknown(seen: list[dict[str, str | int]]) -> None:
    seen.clear()
    assert devices_of(ComputeOptions(gpu_layers=7)) == replace(NONE, gpu=True)


def test_a_gpu_that_is_not_there_is_named(seen: list[dict[str, str | int]]) -> None:
    seen.append(CARD)
    with pytest.raises(RequestError, match="there is no GPU number 1"):
        devices_of(ComputeOptions(main_gpu=1))


@pytest.mark.usefixtures("seen")
def test_what_the_command_line_reports_of_the_device() -> None:
    assert wants_gpu("cpu", None) is wants_gpu("cpu", 0) is False
    assert wants_gpu("auto", None) is wants_gpu("auto", 0) is None
    assert wants_gpu("auto", -1) is wants_gpu("cuda:1", None) is wants_gpu("metal", 3) is True
    with pytest.raises(RequestError, match="--device cpu has no GPU layers"):
        wants_gpu("cpu", 3)
    with pytest.raises(RequestError, match="there is no device 'tpu'"):
        wants_gpu("tpu", None)


def test_doctor_knows_a_card_that_this_build_cannot_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama, "build_info", lambda: {**INFO, "gpu": "no"})
    monkeypatch.setattr(hardware, "graphics", lambda: "cuda")
    text = cli(capsys, "doctor").out
    assert "for a GPU    this machine has one that the installed llama.cpp cannot use; rebuild with:" in text
    assert "CMAKE_ARGS=-DGGML_CUDA=on pip install" in text
    monkeypatch.setattr(hardware, "graphics", lambda: None)
    assert "for a GPU    none was found" in cli(capsys, "doctor").out
