"""What llama.cpp's own API lacks and ggml's C API has: devices, heads of GGUF files, functions for others."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, EngineError, ModelNotFound
from yuegguf.lora import MAKE, AdapterHead

DEVICE_KINDS = ("cpu", "gpu", "igpu", "accelerator")
"""ggml's ggml_backend_dev_type in its order."""
NAMES = ("lib{}.so", "lib{}.dylib", "{}.dll", "lib{}.dll")
"""What a library's file is called, by system."""


def devices(folder: Path) -> list[dict[str, str | int]]:
    """What the libraries in `folder` can compute on: name, description, kind, bytes of memory.

    Kind is one of DEVICE_KINDS; memory is what is free and all there is. Empty where the libraries lie
    elsewhere or lack a function: a plan without it takes a GPU's memory as unknown. llama.cpp must have
    been started.
    """
    try:
        count = function(folder, "ggml_backend_dev_count", ctypes.c_size_t)()
        get = function(folder, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
        texts = {
            field: function(folder, f"ggml_backend_dev_{field}", ctypes.c_char_p, ctypes.c_void_p)
            for field in ("name", "description")
        }
        kind = function(folder, "ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
        pointers = (ctypes.POINTER(ctypes.c_size_t),) * 2
        memory = function(folder, "ggml_backend_dev_memory", None, ctypes.c_void_p, *pointers)
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


def function(folder: Path, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml's, from whichever library in `folder` has it. Raises OSError, AttributeError."""
    for part in ("ggml", "ggml-base"):
        path = next((path for pattern in NAMES if (path := folder / pattern.format(part)).is_file()), None)
        if path is None:
            raise FileNotFoundError(f"{folder} has no library {part}")
        library = ctypes.CDLL(str(path))
        if hasattr(library, name):
            found: Callable[..., Any] = getattr(library, name)
            found.argtypes, found.restype = arguments, result  # type: ignore[attr-defined]
            return found
    raise AttributeError(name)


class Watch(Protocol):
    """What looks at the values of a model's graph as they are computed."""

    def wants(self, node: str) -> bool:
        """Whether to see this node's values."""

    def see(self, node: str, values: NDArray[np.float32]) -> None:
        """Values [ids, columns] of a node."""


def watcher(folder: Path, watch: Watch) -> Callable[[int, bool, object], bool]:
    """`watch` as ggml's scheduler asks it. Raises EngineError where the libraries lie elsewhere."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    try:
        name = function(folder, "ggml_get_name", ctypes.c_char_p, pointer)
        bytes_of = function(folder, "ggml_nbytes", size, pointer)
        rows = function(folder, "ggml_nrows", ctypes.c_int64, pointer)
        get = function(folder, "ggml_backend_tensor_get", None, pointer, pointer, size, size)
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


class _InitParams(ctypes.Structure):
    """gguf_init_params."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


def read_head(folder: Path, path: Path) -> AdapterHead:
    """A GGUF's metadata and shapes, read as llama.cpp will read them, by the libraries in `folder`.

    Raises ModelNotFound, DamagedFile, or EngineError where the libraries lie elsewhere.
    """
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}", MAKE)
    try:
        library = _Gguf(folder)
    except (AttributeError, OSError) as error:
        raise EngineError(
            f"llama.cpp's libraries in {folder} cannot read an adapter ({error})",
            "install llama-cpp-python again",
        ) from error
    found = library.init_from_file(bytes(path), _InitParams(no_alloc=True, ctx=None))
    if not found:
        raise DamagedFile(f"{path.name} is not a GGUF file that llama.cpp can read", MAKE)
    try:
        return library.head(found, path)
    finally:
        library.free(found)


class _Gguf:
    """The functions of gguf.h that reading a head takes."""

    FLOAT32, STRING = 6, 8
    """gguf_type's GGUF_TYPE_FLOAT32 and GGUF_TYPE_STRING."""

    def __init__(self, folder: Path) -> None:
        here, count, size, text = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t, ctypes.c_char_p

        def own(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
            return function(folder, f"gguf_{name}", result, *arguments)

        self.init_from_file = own("init_from_file", here, text, _InitParams)
        self.free = own("free", None, here)
        self.values = own("get_n_kv", count, here)
        self.key = own("get_key", text, here, count)
        self.kind = own("get_kv_type", ctypes.c_int, here, count)
        self.text = own("get_val_str", text, here, count)
        self.float32 = own("get_val_f32", ctypes.c_float, here, count)
        self.tensors = own("get_n_tensors", count, here)
        self.name = own("get_tensor_name", text, here, count)
        self.dims = own("get_tensor_ne", ctypes.POINTER(ctypes.c_int64), here, count)
        self.data = own("get_data_offset", size, here)
        self.offset = own("get_tensor_offset", size, here, count)
        self.size = own("get_tensor_size", size, here, count)

    def head(self, found: int, path: Path) -> AdapterHead:
        values = {_text(self.key(found, i)): self._value(found, i) for i in range(self.values(found))}
        shapes = {}
        for i in range(self.tensors(found)):
            name, dims = _text(self.name(found, i)), self.dims(found, i)[:4]
            end = self.data(found) + self.offset(found, i) + self.size(found, i)
            if end > path.stat().st_size:
                raise DamagedFile(f"{path.name} is damaged: it ends before the end of {name}", MAKE)
            flat = dims[2:] == [1, 1]
            shapes[name] = (dims[1], dims[0]) if flat else tuple(reversed(dims))
        return AdapterHead(path.name, values, shapes)

    def _value(self, found: int, i: int) -> str | float | None:
        """A value; asking for the wrong type would end the program."""
        kind = self.kind(found, i)
        if kind == self.FLOAT32:
            return float(self.float32(found, i))
        return _text(self.text(found, i)) if kind == self.STRING else None


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
