"""Functions of ggml's C API that llama.cpp's lacks: devices, and values of a graph."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError

DEVICE_KINDS = ("cpu", "gpu", "igpu", "accelerator")
"""ggml's ggml_backend_dev_type in its order."""
LIBRARY_NAMES = ("lib{}.so", "lib{}.dylib", "{}.dll", "lib{}.dll")
"""File names of a library, by system."""


def devices(folder: Path) -> list[dict[str, str | int]]:
    """Devices of the libraries in `folder`: name, description, kind, free and total memory.

    Kind is one of DEVICE_KINDS; memory is in bytes. Empty where the libraries lie elsewhere or lack a
    function: a plan then takes a GPU's memory as unknown. llama.cpp's backend must be initialised.
    """
    try:
        count = load_function(folder, "ggml_backend_dev_count", ctypes.c_size_t)()
        get = load_function(folder, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
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
    for device in map(get, range(count)):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        facts = {field: (read(device) or b"").decode(errors="replace") for field, read in texts.items()}
        facts["kind"] = dict(enumerate(DEVICE_KINDS)).get(kind(device), "other")
        listed.append({**facts, "memory_free": free.value, "memory_total": total.value})
    return listed


def load_function(folder: Path, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml, from the library in `folder` that exports it. Raises OSError, AttributeError."""
    for stem in ("ggml", "ggml-base"):
        path = next(
            (path for pattern in LIBRARY_NAMES if (path := folder / pattern.format(stem)).is_file()), None
        )
        if path is None:
            raise FileNotFoundError(f"{folder} has no library {stem}")
        library = ctypes.CDLL(str(path))
        if hasattr(library, name):
            function: Callable[..., Any] = getattr(library, name)
            function.argtypes, function.restype = arguments, result  # type: ignore[attr-defined]
            return function
    raise AttributeError(name)


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
