"""Which device is used: what llama.cpp was built for, what it sees, and what the user says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import cli, refused

from yuegguf.cli._compute import gpu_index, rpc_server, wants_gpu
from yuegguf.errors import EngineError, RequestError
from yuegguf.lm import build
from yuegguf.pipeline import engines
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions, Devices

GIB = 2**30
NONE = Devices(4)
"""A machine with four cores and no GPU, of which nothing else is known."""
INFO = build.build_info()


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
    monkeypatch.setattr(build, "devices", lambda _server=None: found)
    monkeypatch.setattr(build, "build_info", lambda: {**INFO, "gpu": "yes"})
    monkeypatch.setattr(hardware, "is_mac", lambda: False)
    return found


def test_a_build_without_gpu_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build_info", lambda: {**INFO, "gpu": "no"})
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


@pytest.mark.parametrize(
    ("server", "shared"),
    [("127.0.0.1:5", True), ("localhost:5", True), ("10.0.0.7:5", False), ("box:5", False)],
)
def test_a_server_takes_the_place_of_the_cards(
    seen: list[dict[str, str | int]], monkeypatch: pytest.MonkeyPatch, server: str, shared: bool
) -> None:
    seen.append(CARD)
    monkeypatch.setattr(build, "devices", lambda of=None: [SMALL] if of == server else seen)
    monkeypatch.setattr(hardware, "is_mac", lambda: True)
    expected = replace(NONE, gpu=True, gpu_memory=6 * GIB, shared_memory=shared)
    assert devices_of(ComputeOptions(rpc_server=server)) == expected
    assert devices_of(ComputeOptions(rpc_server=server, gpu_layers=3)) == expected
    assert devices_of(ComputeOptions(rpc_server=server, gpu_layers=0)) == NONE


def test_the_name_of_a_server_is_its_host_and_port() -> None:
    for device in ("rpc:127.0.0.1:50052", "RPC:127.0.0.1:50052"):
        assert wants_gpu(device, None) is wants_gpu(device, 3) is True
        assert (gpu_index(device), rpc_server(device)) == (None, "127.0.0.1:50052")
    assert rpc_server("cuda:1") is None
    for server in ("a:1", "gpu-box.lan:65535", "192.168.1.20:50052"):
        assert ComputeOptions(rpc_server=server).names_device
    for wrong in (
        "",
        ":1",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "::1:5",
        "[::1]:5",
        "a b:1",
        "-a:1",
        "h:1\n",
    ):
        with pytest.raises(RequestError, match=r"there is no RPC server .*; write a name or an IPv4"):
            ComputeOptions(rpc_server=wrong)
    for beside in ({"main_gpu": 0}, {"gpu": False}):
        with pytest.raises(RequestError, match="takes the place of the GPU"):
            ComputeOptions(rpc_server="a:1", **beside)  # type: ignore[arg-type]


@pytest.mark.skipif(INFO["rpc"] == "yes", reason="this llama.cpp has RPC")
def test_a_build_without_rpc_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="was built without RPC; build it: CMAKE_ARGS=-DGGML_RPC=on pip"):
        engines.find_devices(ComputeOptions(rpc_server="127.0.0.1:1"))
    assert "was built without RPC" in refused(capsys, 1, "rpc-server")
    assert "there is no RPC server 'no host:50052'" in refused(capsys, 5, "rpc-server", "--host", "no host")


@pytest.mark.parametrize(
    ("kinds", "gpu"), [(["cpu"], "no"), (["cpu", "gpu"], "yes"), (["cpu", "igpu"], "yes")]
)
def test_rpc_alone_is_no_gpu(monkeypatch: pytest.MonkeyPatch, kinds: list[str], gpu: str) -> None:
    monkeypatch.setattr(build.lib, "llama_supports_gpu_offload", lambda: True)
    monkeypatch.setattr(build.lib, "llama_supports_rpc", lambda: True)
    monkeypatch.setattr(build, "devices", lambda: [device(kind, 1) for kind in kinds])
    assert (build.build_info()["gpu"], build.build_info()["rpc"]) == (gpu, "yes")


def test_doctor_knows_a_card_that_this_build_cannot_use(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build_info", lambda: {**INFO, "gpu": "no"})
    monkeypatch.setattr(hardware, "graphics", lambda: "cuda")
    text = cli(capsys, "doctor").out
    assert "for a GPU    this machine has one that the installed llama.cpp cannot use; rebuild with:" in text
    assert "CMAKE_ARGS=-DGGML_CUDA=on pip install" in text
    monkeypatch.setattr(hardware, "graphics", lambda: None)
    assert "for a GPU    none was found" in cli(capsys, "doctor").out
