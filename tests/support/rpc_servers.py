"""RPC servers on loopback for tests of a llama.cpp that was built with RPC."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from helpers import start

from yuegguf.lm.build import build_info

NEEDS_RPC = pytest.mark.skipif(
    build_info()["rpc"] == "no", reason="llama.cpp was built without RPC: make test-rpc builds one with it"
)


def free_endpoint() -> str:
    """HOST:PORT at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def rpc_server(endpoint: str) -> Iterator[subprocess.Popen[str]]:
    """The command at HOST:PORT, once it accepts connections."""
    host, _, port = endpoint.rpartition(":")
    process = start("rpc-server", "--host", host, "--port", port, "--threads", 1)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"rpc:{endpoint}\n", process.stderr.read()
        for line in process.stderr:
            if "transport" in line:  # the last that llama.cpp prints before it listens
                break
        while True:
            try:
                socket.create_connection((host, int(port)), 30).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()
