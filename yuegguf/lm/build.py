"""The installed llama.cpp: its version, its features, and the devices that it can use."""

from __future__ import annotations

import llama_cpp as lib

from yuegguf.errors import YueError
from yuegguf.files.reading import FileVersion, file_version
from yuegguf.lm import ggml, rpc
from yuegguf.lm.loading import LIBRARIES, init_backend

GPU_KINDS = ("gpu", "igpu")
"""Kinds of ggml's devices that can hold layers."""


def devices(rpc_server: str | None = None) -> list[dict[str, str | int]]:
    """Facts of llama.cpp's devices, or of those of an RPC server; see `ggml.device_facts`.

    Raises EngineError for a server that cannot be used.
    """
    init_backend()
    if rpc_server is None:
        return ggml.device_facts(LIBRARIES, ggml.device_handles(LIBRARIES))
    return ggml.device_facts(LIBRARIES, rpc.device_handles(LIBRARIES, rpc_server))


def build_info() -> dict[str, str]:
    """Version and features of the installed llama.cpp, for `doctor`."""
    init_backend()
    gpu = lib.llama_supports_gpu_offload()
    if gpu and lib.llama_supports_rpc():  # which counts as a GPU, also where there is no server
        gpu = any(device["kind"] in GPU_KINDS for device in devices())
    return {
        "llama-cpp-python": str(lib.__version__),
        "system": lib.llama_print_system_info().decode(errors="replace").strip(),
        "gpu": "yes" if gpu else "no",
        "rpc": "yes" if lib.llama_supports_rpc() else "no",
    }


def check_gpu() -> None:
    """Raise YueError where llama.cpp can use no GPU of this machine."""
    if build_info()["gpu"] != "yes":
        raise YueError(
            "the installed llama.cpp has no GPU support", "pass --device cpu, or see: yuegguf doctor"
        )


def build_files() -> tuple[FileVersion, ...]:
    """Versions of llama.cpp's files, which another build changes."""
    return tuple(map(file_version, sorted(LIBRARIES.glob("*"))))


def check_rpc_build() -> None:
    """Raise EngineError where llama.cpp was built without RPC."""
    if not lib.llama_supports_rpc():
        raise rpc.without_rpc()


def serve_devices(endpoint: str, threads: int) -> None:
    """Serve this machine's GPUs, or else its CPU, to llama.cpp elsewhere until the process ends.

    Raises EngineError where llama.cpp was built without RPC or cannot listen there.
    """
    init_backend()
    handles = ggml.device_handles(LIBRARIES)
    kinds = [str(facts["kind"]) for facts in ggml.device_facts(LIBRARIES, handles)]
    for wanted in (*GPU_KINDS, "cpu"):
        if chosen := [handle for handle, kind in zip(handles, kinds, strict=True) if kind == wanted]:
            break
    rpc.serve(LIBRARIES, endpoint, threads, chosen)
