"""Parts of ggml's C API that llama.cpp's lacks: devices, values of a graph, functions for others."""

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
    """Devices that the libraries in `folder` can compute on: name, description, kind, bytes of memory.

    Kind is one of DEVICE_KINDS; memory is what is free and all there is. Empty where the libraries lie
    elsewhere or lack a function: a plan without it takes a GPU's memory as unknown. llama.cpp must have
    been started.
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
    found: list[dict[str, str | int]] = []
    for device in map(get, range(count)):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        facts = {field: (read(device) or b"").decode(errors="replace") for field, read in texts.items()}
        facts["kind"] = dict(enumerate(DEVICE_KINDS)).get(kind(device), "other")
        found.append({**facts, "memory_free": free.value, "memory_total": total.value})
    return found


def load_function(folder: Path, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml's, from whichever library in `folder` has it. Raises OSError, AttributeError."""
    for part in ("ggml", "ggml-base"):
        path = next(
            (path for pattern in LIBRARY_NAMES if (path := folder / pattern.format(part)).is_file()), None
        )
        if path is None:
            raise FileNotFoundError(f"{folder} has no library {part}")
        library = ctypes.CDLL(str(path))
        if hasattr(library, name):
            found: Callable[..., Any] = getattr(library, name)
            found.argtypes, found.restype = arguments, result  # type: ignore[attr-defined]
            return found
    raise AttributeError(name)


class TensorObserver(Protocol):
    """An observer of the values of a model's graph as they are computed."""

    def wants(self, node: str) -> bool:
        """Whether to see this node's values."""

    def see(self, node: str, values: NDArray[np.float32]) -> None:
        """Values [ids, columns] of a node."""


def eval_callback(folder: Path, watch: TensorObserver) -> Callable[[int, bool, object], bool]:
    """`watch` as ggml's scheduler asks it. Raises EngineError where the libraries lie elsewhere."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    try:
        name = load_function(folder, "ggml_get_name", ctypes.c_char_p, pointer)
        bytes_of = load_function(folder, "ggml_nbytes", size, pointer)
        rows = load_function(folder, "ggml_nrows", ctypes.c_int64, pointer)
        get = load_function(folder, "ggml_backend_tensor_get", None, pointer, pointer, size, size)
    except (AttributeError, OSError) as error:
        raise EngineError(
            f"llama.cpp's libraries in {folder} do not show what they compute ({error})",
            "install llama-cpp-python again, or leave --song out",
        ) from error

    def ask(tensor: int, asking: bool, _data: object) -> bool:
        node = name(tensor).decode(errors="replace")
        if not asking:
            values = np.empty(bytes_of(tensor) // 4, np.float32)
            get(tensor, values.ctypes.data, 0, values.nbytes)
            watch.see(node, values.reshape(rows(tensor), -1))
        return not asking or watch.wants(node)

    return ask
