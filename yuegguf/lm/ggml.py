"""Functions of ggml's C API that llama.cpp's lacks: devices, values of a graph, and its last message."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError

DEVICE_KINDS = ("cpu", "gpu", "igpu", "accelerator")
"""ggml's ggml_backend_dev_type in its order."""
LIBRARY_STEMS = ("ggml", "ggml-base", "ggml-rpc")
"""Libraries of ggml, the last only in a build with RPC."""
LIBRARY_NAMES = ("lib{}.so", "lib{}.dylib", "{}.dll", "lib{}.dll")
"""File names of a library, by system."""
ABORT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_abort_callback: object = None


def device_handles(folder: Path) -> list[int]:
    """Handles of the devices of the libraries in `folder`; llama.cpp's backend must be initialised.

    Empty where the libraries lie elsewhere or lack a function.
    """
    try:
        count = load_function(folder, "ggml_backend_dev_count", ctypes.c_size_t)()
        get = load_function(folder, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    except (AttributeError, OSError):
        return []
    return [*map(get, range(count))]


def device_facts(folder: Path, handles: Iterable[int]) -> list[dict[str, str | int]]:
    """Name, description, kind, free and total memory of each device.

    Kind is one of DEVICE_KINDS; memory is in bytes. Empty where the libraries lie elsewhere or lack a
    function: a plan then takes a GPU's memory as unknown.
    """
    try:
        texts = {
            field: load_function(folder, f"ggml_backend_dev_{field}", ctypes.c_char_p, ctypes.c_void_p)
            for field in ("name", "description")
        }
        kind = load_function(folder, "ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
        pointers = (ctypes.POINTER(ctypes.c_size_t),) * 2
        memory = load_function(folder, "ggml_backend_dev_memory", None, ctypes.c_void_p, *pointers)
    except (AttributeError, OSError):
        return []
    listed: list[dict[str, str | int]] = []
    for device in handles:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        facts = {field: (read(device) or b"").decode(errors="replace") for field, read in texts.items()}
        facts["kind"] = dict(enumerate(DEVICE_KINDS)).get(kind(device), "other")
        listed.append({**facts, "memory_free": free.value, "memory_total": total.value})
    return listed


def load_function(folder: Path, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml, from the library in `folder` that exports it. Raises OSError, AttributeError."""
    function: Callable[..., Any] = getattr(ctypes.CDLL(str(library_of(folder, name))), name)
    function.argtypes, function.restype = arguments, result  # type: ignore[attr-defined]
    return function


def library_of(folder: Path, name: str) -> Path:
    """The library of ggml in `folder` that exports a function. Raises OSError, AttributeError."""
    named = [folder / pattern.format(stem) for stem in LIBRARY_STEMS for pattern in LIBRARY_NAMES]
    present = [path for path in named if path.is_file()]
    if not present:
        raise FileNotFoundError(f"{folder} has no library of ggml")
    for path in present:
        if hasattr(ctypes.CDLL(str(path)), name):
            return path
    raise AttributeError(name)


def set_abort_handler(folder: Path, handler: Callable[[str], object]) -> None:
    """Let ggml call `handler` with its message before it ends this process; it may end it otherwise.

    Does nothing where the libraries lie elsewhere or lack the function.
    """
    global _abort_callback
    with suppress(AttributeError, OSError):
        set_callback = load_function(folder, "ggml_set_abort_callback", ctypes.c_void_p, ABORT_CALLBACK)
        callback = ABORT_CALLBACK(lambda message: handler((message or b"").decode(errors="replace")))
        set_callback(callback)
        _abort_callback = callback  # ggml keeps its address


class TensorObserver(Protocol):
    """Receiver of values of a model's graph as they are computed."""

    def wants(self, node: str) -> bool:
        """Whether to receive this node's values."""

    def observe(self, node: str, values: NDArray[np.float32]) -> None:
        """Receive the values [ids, columns] of a node."""


def eval_callback(folder: Path, observer: TensorObserver) -> Callable[[int, bool, object], bool]:
    """Callback of ggml's scheduler for an observer. Raises EngineError where the libraries lie elsewhere."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    try:
        name = load_function(folder, "ggml_get_name", ctypes.c_char_p, pointer)
        bytes_of = load_function(folder, "ggml_nbytes", size, pointer)
        rows = load_function(folder, "ggml_nrows", ctypes.c_int64, pointer)
        get = load_function(folder, "ggml_backend_tensor_get", None, pointer, pointer, size, size)
    except (AttributeError, OSError) as error:
        raise EngineError(
            f"llama.cpp's libraries in {folder} do not give out the values that they compute ({error})",
            "install llama-cpp-python again, or leave --song out",
        ) from error

    def callback(tensor: int, asking: bool, _data: object) -> bool:
        node = name(tensor).decode(errors="replace")
        if not asking:
            values = np.empty(bytes_of(tensor) // 4, np.float32)
            get(tensor, values.ctypes.data, 0, values.nbytes)
            observer.observe(node, values.reshape(rows(tensor), -1))
        return not asking or observer.wants(node)

    return callback
