"""Layers in the memory of an RPC server: the same model, caches, adapters; servers that are of no use."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from adapters import write_peft
from numpy.typing import NDArray
from rpc_servers import NEEDS_RPC, free_endpoint, rpc_server
from yuegguf_convert.lora import convert_lora

from yuegguf.errors import EngineError
from yuegguf.lm import rpc
from yuegguf.lm.adapters import Lora
from yuegguf.lm.build import devices
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.models.resolve import nano_models

pytestmark = NEEDS_RPC
MODEL = nano_models().stage1
IDS = [int(i) for i in np.random.default_rng(0).integers(259, 900, 60)]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    endpoint = free_endpoint()
    with rpc_server(endpoint):
        yield endpoint


def opened(server: str | None, layers: int = -1, rows: int = 2, loras: tuple[Lora, ...] = ()) -> LlamaEngine:
    # the server does not lay weights out anew, and other kernels round activations to other bits
    options = EngineOptions(256, rows, 1, gpu_layers=layers, rpc_server=server, loras=loras, repack=False)
    return LlamaEngine(MODEL, options)


def logits_of(engine: LlamaEngine, ids: Sequence[int], seq: int = 0) -> NDArray[np.float32]:
    return engine.decode([SequenceInput(seq, ids)])[0].copy()


@pytest.fixture(scope="module")
def here() -> NDArray[np.float32]:
    with closing(opened(None, 0)) as engine:
        return logits_of(engine, IDS)


def test_the_server_is_a_gpu_by_its_address_with_its_memory(server: str) -> None:
    (device,) = devices(server)
    assert (device["description"], device["kind"]) == (server, "gpu")
    assert device["name"].startswith("RPC")  # type: ignore[union-attr]
    assert 0 < int(device["memory_free"]) <= int(device["memory_total"])
    assert server not in [each["description"] for each in devices()]  # nobody else uses it by chance


@pytest.mark.parametrize("layers", [0, 1, 3, -1])
def test_layers_compute_the_same_bits_there(server: str, layers: int, here: NDArray[np.float32]) -> None:
    with closing(opened(server, layers)) as engine:
        there = logits_of(engine, IDS)
        assert rpc._used[server] == (layers != 0)  # without layers the server is free for others
    assert (there == here).all()


@pytest.mark.parametrize("layers", [2, -1])
def test_caches_are_dropped_copied_saved_and_resized_to_the_bit(
    server: str, layers: int, tmp_path: Path
) -> None:
    with closing(opened(server, layers)) as engine:
        logits_of(engine, IDS)
        engine.save(0, tmp_path / "cache")
        expected = logits_of(engine, [7])
        engine.forget(0, len(IDS))
        engine.copy(0, 1)
        assert (logits_of(engine, [7], 1) == expected).all()
        engine.resize(3, 512)
        assert (logits_of(engine, [7]) == expected).all()
    with closing(opened(server, layers, rows=3)) as engine:
        engine.load(2, tmp_path / "cache")
        assert (logits_of(engine, [7], 2) == expected).all()


def test_an_adapter_gives_the_same_bits_there(server: str, here: NDArray[np.float32], tmp_path: Path) -> None:
    adapter = convert_lora(write_peft(tmp_path / "peft", MODEL), tmp_path / "lora.gguf", base=MODEL)
    found = []
    for place in (None, server):
        with closing(opened(place, -1 if place else 0, loras=(Lora(adapter),))) as engine:
            found.append(logits_of(engine, IDS))
    assert (found[0] == found[1]).all()
    assert np.abs(found[0] - here).max() > 1


def test_two_models_of_a_process_share_its_connection(server: str) -> None:
    with closing(opened(server)) as first, closing(opened(server)) as second:
        assert (logits_of(first, IDS) == logits_of(second, IDS)).all()
        assert devices(server)
    assert not rpc._used[server]


def test_a_server_that_is_not_there_is_named() -> None:
    endpoint = free_endpoint()
    with pytest.raises(
        EngineError, match=rf"no RPC server can be reached at {endpoint} \(Connection refused\)"
    ):
        opened(endpoint)
    with pytest.raises(EngineError, match="no RPC server can be reached at no such host:1 "):
        devices("no such host:1")


def test_a_server_that_is_busy_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "ANSWER_SECONDS", 1.0)
    host, _, port = server.rpartition(":")
    said = "does not answer within 1 s; it serves one program at a time"
    with socket.create_connection((host, int(port))), pytest.raises(EngineError, match=said):
        opened(server)
    monkeypatch.undo()
    assert devices(server)


def test_another_program_at_the_address_ends_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for _ in range(2):
                connection, _address = listening.accept()
                with connection:
                    connection.sendall(b"220 ready\r\n" * 10)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        with pytest.raises(EngineError, match=r"no RPC server of this llama\.cpp \(.*ggml-rpc"):
            opened(f"127.0.0.1:{port}")
        thread.join()
