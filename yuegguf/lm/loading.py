"""Models and adapters of llama.cpp, and what frees them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import llama_cpp as lib

from yuegguf.errors import DamagedFile
from yuegguf.lm import aborts, rpc
from yuegguf.lm.log import LOG

LIBRARIES = Path(lib.__file__).parent / "lib"
_started = False


def init_backend() -> None:
    """Start llama.cpp once, with its log and its last message turned to ours."""
    global _started
    LOG.attach(lib.llama_log_set)
    if not _started:
        lib.llama_backend_init()
        aborts.install(LIBRARIES)
        _started = True


def acquire(
    undo: ExitStack, free: Callable[[Any], object], make: Callable[..., Any], *arguments: object
) -> Any:
    """Call a C function that allocates an object, and let `undo` free it.

    A Ctrl-C during the call is raised once it returns, before its result can be assigned; `extend` has
    stored it for `undo` by then.
    """
    handles: list[Any] = []

    def release() -> None:
        if handles and handles[0]:
            free(handles[0])

    undo.callback(release)
    handles.extend(map(make, *((argument,) for argument in arguments)))
    return handles[0]


def load_model(
    path: Path,
    gpu_layers: int,
    main_gpu: int | None,
    rpc_server: str | None,
    undo: ExitStack,
    *,
    repack: bool = True,
) -> object:
    """A model, which `undo` frees. Raises DamagedFile, or EngineError for an RPC server that fails."""
    init_backend()
    LOG.begin()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    params.use_extra_bufts = repack
    if rpc_server and gpu_layers:
        devices = undo.enter_context(rpc.connected(LIBRARIES, rpc_server))
        params.devices = ctypes.cast(devices, ctypes.c_void_p)
    elif main_gpu is not None:
        params.main_gpu, params.split_mode = main_gpu, lib.LLAMA_SPLIT_MODE_NONE
    params.load_mode = (
        lib.LLAMA_LOAD_MODE_NONE
    )  # weights are repacked: a mapped file would stay in memory too
    model = acquire(undo, lib.llama_model_free, lib.llama_model_load_from_file, bytes(path), params)
    if not model:
        raise DamagedFile(
            f"{path.name} is not a GGUF that llama.cpp can load{LOG.detail}", "convert it again"
        )
    return cast(object, model)


def load_adapter(model: object, path: Path) -> object:
    """An adapter, which the model frees; must be loaded before a context is opened. Raises DamagedFile."""
    LOG.begin()
    adapter = lib.llama_adapter_lora_init(model, bytes(path))
    if not adapter:
        raise DamagedFile(
            f"{path.name} is not an adapter that llama.cpp can load{LOG.detail}", "convert it again"
        )
    return cast(object, adapter)
