"""llama.cpp's RPC backend: devices of a server in another process or machine, and such a server.

llama.cpp ends the process where it cannot reach a server, and waits for ever for one that is busy, since a
server has one client at a time. So another process tries each server out first.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yuegguf.errors import EngineError
from yuegguf.lm import ggml

ANSWER_SECONDS = 10.0
"""Seconds within which a server must answer."""
TRIAL = Path(__file__).with_name("rpc_trial.py")
RPC_BUILD = "CMAKE_ARGS=-DGGML_RPC=on pip install --force-reinstall --no-cache-dir llama-cpp-python"
"""Command that installs a llama.cpp with RPC."""
_used: Counter[str] = Counter()
"""Server → number of our models that hold its connection."""
_lock = threading.Lock()


def device_handles(folder: Path, server: str) -> list[int]:
    """Handles of the devices of a server, HOST:PORT.

    Raises EngineError where the libraries in `folder` have no RPC, or the server is not there, does not
    answer, is another program or of another version.
    """
    register = _function(folder, "ggml_backend_rpc_add_server", ctypes.c_void_p, ctypes.c_char_p)
    if not _used[server]:
        _try_out(folder, server)
    found = register(server.encode())
    if not found:
        raise EngineError(f"the RPC server at {server} has no devices", "start another one")
    count = ggml.load_function(folder, "ggml_backend_reg_dev_count", ctypes.c_size_t, ctypes.c_void_p)
    types = ctypes.c_void_p, ctypes.c_size_t
    get = ggml.load_function(folder, "ggml_backend_reg_dev_get", ctypes.c_void_p, *types)
    return [get(found, index) for index in range(count(found))]


@contextmanager
def connected(folder: Path, server: str) -> Iterator[ctypes.Array[ctypes.c_void_p]]:
    """The devices of a server as llama.cpp's list, which ends with a null pointer.

    The server is busy with this process until the end. Raises what `device_handles` raises.
    """
    handles = device_handles(folder, server)
    with _lock:
        _used[server] += 1
    try:
        yield (ctypes.c_void_p * (len(handles) + 1))(*handles, None)
    finally:
        with _lock:
            _used[server] -= 1


def serve(folder: Path, endpoint: str, threads: int, devices: Sequence[int]) -> None:
    """Serve devices to one client after the other until the process ends.

    Raises EngineError where the libraries in `folder` have no RPC or cannot listen at HOST:PORT.
    """
    texts, sizes = (ctypes.c_char_p,) * 2, (ctypes.c_size_t,) * 2
    start = _function(folder, "ggml_backend_rpc_start_server", None, *texts, *sizes, ctypes.c_void_p)
    handles = (ctypes.c_void_p * len(devices))(*devices)
    start(endpoint.encode(), None, threads, len(devices), handles)
    raise EngineError(
        f"llama.cpp cannot listen at {endpoint}",
        "pass another --port, or as --host an IPv4 address of this machine",
    )


def without_rpc() -> EngineError:
    """The error of a llama.cpp that knows no RPC servers."""
    return EngineError("the installed llama.cpp was built without RPC", f"build it: {RPC_BUILD}")


def _function(folder: Path, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    try:
        return ggml.load_function(folder, name, result, *arguments)
    except (AttributeError, OSError) as error:
        raise without_rpc() from error


def _try_out(folder: Path, server: str) -> None:
    """Raise EngineError for a server that llama.cpp could not use."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
    except TimeoutError as error:
        raise _silent(server) from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EngineError(
            f"no RPC server can be reached at {server} ({reason})", "start one there: yuegguf rpc-server"
        ) from error
    library = ggml.library_of(folder, "ggml_backend_rpc_add_server")
    base = ggml.library_of(folder, "ggml_set_abort_callback")
    command = [sys.executable, "-I", str(TRIAL), str(library), str(base), server]
    try:
        tried = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _silent(server) from error
    if tried.returncode:
        lines = tried.stderr.decode(errors="replace").strip().splitlines() or [
            f"exit code {tried.returncode}"
        ]
        raise EngineError(
            f"what answers at {server} is no RPC server of this llama.cpp ({lines[-1]})",
            "start one of the same version there: yuegguf rpc-server",
        )


def _silent(server: str) -> EngineError:
    return EngineError(
        f"the RPC server at {server} does not answer within {ANSWER_SECONDS:g} s",
        "it serves one program at a time: wait until the other one ends, or start another server",
    )
