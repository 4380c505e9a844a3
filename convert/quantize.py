"""Quantise with llama.cpp's own quantiser, a whole GGUF or rows of it; nothing else here imports llama_cpp.

llama.cpp chooses the type of each tensor, falls back where a row does not divide into blocks
(stage 2's ffn_down has 5,504 columns) and keeps the metadata. Its choice depends on names, columns and
layers only, so a file of two rows per tensor shows it: a checkpoint is then quantised as it is read,
without a 16-bit copy of it on the disk.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from gguf import Keys, LlamaFileType
from numpy.typing import NDArray

from yuegguf.errors import EngineError, RequestError, StorageError
from yuegguf.lm import ggml
from yuegguf.lm.gguf_header import BLOCK_SIZES
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.log import LOG
from yuegguf.lm.vocab import TOKENIZER_KEY

from .gguf_file import GgufFile, Tensor, TensorType, Value, read_gguf, write_gguf
from .target import partial_file, scratch_file

OWN_TYPES = ("F32", "F16", "BF16", "Q8_0")
"""Types encoded without llama.cpp."""
LLAMA_TYPES = (
    "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS",
    "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
)  # fmt: skip
"""Types that need llama.cpp and no importance matrix, largest first."""
KNOWN_TYPES = frozenset(kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType)
"""All types of llama.cpp, those that need an importance matrix included."""
FLOAT_TYPES = {TensorType.F32, TensorType.F16, TensorType.BF16}
BITS_PER_WEIGHT = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.8, "Q5_K_S": 5.7,
    "Q5_1": 6.1, "Q5_0": 5.7, "Q4_K_M": 5.1, "Q4_K_S": 4.8, "Q4_1": 5.2, "Q4_0": 4.8, "IQ4_NL": 4.8,
    "IQ4_XS": 4.6, "Q3_K_L": 4.5, "Q3_K_M": 4.2, "Q3_K_S": 3.8, "Q2_K": 3.5,
}  # fmt: skip
"""Bits per weight of a whole file, rounded up, to estimate its size."""
PROBE_BYTES = 8 << 20
"""Bytes written to test whether a disk is full."""
BUFFER_BYTES = 512 << 20
"""Maximum bytes of tensor rows in llama.cpp's buffer; its default is 8 GiB."""


def check_type(out_type: str) -> str:
    """Type name in capitals. Raises RequestError listing the valid ones."""
    name = out_type.upper()
    if name not in OWN_TYPES + LLAMA_TYPES:
        raise RequestError(
            f"there is no type {out_type!r}", f"choose one of {', '.join(OWN_TYPES + LLAMA_TYPES)}"
        )
    return name


def check_known_type(type_name: str) -> str:
    """Name in capitals of any of llama.cpp's types. Raises RequestError."""
    name = type_name.upper()
    if name not in KNOWN_TYPES:
        known = ", ".join(OWN_TYPES + LLAMA_TYPES)
        raise RequestError(
            f"there is no type {type_name!r}", f"choose one of {known} or another of llama.cpp"
        )
    return name


def file_type(name: str) -> LlamaFileType:
    """llama.cpp's number of a type, as in `general.file_type`."""
    return LlamaFileType.ALL_F32 if name == "F32" else LlamaFileType[f"MOSTLY_{name}"]


Importance = Mapping[str, NDArray[np.float32]]
"""Tensor name → importance of each column."""


def quantize_gguf(
    source: Path,
    out: Path,
    out_type: str,
    *,
    threads: int | None = None,
    overwrite: bool = False,
    importance: Importance | None = None,
) -> Path:
    """Write `source` (F32, F16 or BF16) again as `out_type`, weighting columns by `importance`.

    `threads` defaults to the machine's cores. Raises ModelNotFound, DamagedFile, StorageError,
    RequestError for an unknown type or an already quantised source, EngineError when llama.cpp
    refuses; nothing is left behind then.
    """
    name = check_type(out_type)
    file = read_model(source).file
    if any(tensor.kind not in FLOAT_TYPES for tensor in file.tensors.values()):
        raise RequestError(
            f"{source.name} is quantised already, and twice would lose more",
            "start from an F32, F16 or BF16 file",
        )
    with partial_file(out, overwrite) as partial:
        _quantize_file(file.path, partial, file_type(name), threads, importance or {})
        read_model(partial)  # a truncated file is refused here, before it is renamed
    return out


def quantize_thin(source: Path, out: Path, out_type: str) -> GgufFile:
    """Quantise a file with fewer rows or pieces than a whole model."""
    with partial_file(out) as partial:
        _quantize_file(source, partial, file_type(check_type(out_type)), None, {})
    return read_gguf(out)


def chosen_types(
    metadata: Mapping[str, Value], tensors: Sequence[Tensor], out_type: str, beside: Path
) -> dict[str, TensorType]:
    """The type that llama.cpp gives each tensor of a model, by name, in the order of its files.

    `metadata` without the token list is enough. Two small files are written beside the path `beside`
    and removed. Raises RequestError, StorageError, EngineError.
    """
    name = check_type(out_type)
    short = {key: value for key, value in metadata.items() if key not in _PER_PIECE}
    thin = [_thin(tensor) for tensor in tensors]

    def zeros(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        yield np.zeros(tensor.size, np.uint8)

    with scratch_file(beside) as exact, scratch_file(beside) as made:
        with partial_file(exact) as partial:
            write_gguf(partial, short, thin, zeros)
        return {key: tensor.kind for key, tensor in quantize_thin(exact, made, name).tensors.items()}


def quantize_rows(
    values: NDArray[np.float32], kind: TensorType, name: str, threads: int | None = None
) -> NDArray[np.uint8]:
    """Rows [rows, columns] as blocks of `kind`, [rows, row bytes], as llama.cpp makes them.

    `threads` defaults to the machine's cores. Raises RequestError naming the tensor `name` when
    the values are outside the range of `kind`.
    """
    values = np.ascontiguousarray(values, np.float32)
    rows, columns = values.shape
    block, size = BLOCK_SIZES[kind]
    out = np.empty((rows, columns // block * size), np.uint8)
    quantize, valid = _ggml_functions()
    count = max(1, min(threads or os.cpu_count() or 1, rows))
    edges = [rows * i // count for i in range(count + 1)]

    def part(i: int) -> None:
        start, stop = edges[i], edges[i + 1]
        quantize(int(kind), values.ctypes.data, out.ctypes.data, start * columns, stop - start, columns, None)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(part, range(count)))
    if not valid(int(kind), out.ctypes.data, out.nbytes):
        raise RequestError(
            f"tensor {name} holds {np.abs(values).max():g}, outside the range of {kind.name}",
            "convert to BF16 or F32 instead",
        )
    return out


_PER_PIECE = (Keys.Tokenizer.LIST, Keys.Tokenizer.SCORES, Keys.Tokenizer.TOKEN_TYPE, TOKENIZER_KEY)
"""Large metadata on which the choice of types does not depend."""


def _thin(tensor: Tensor) -> Tensor:
    """The tensor with two rows of float16; one row would count as a vector, which stays as it is."""
    if len(tensor.shape) == 1:
        return Tensor(tensor.name, TensorType.F32, tensor.shape)
    return Tensor(tensor.name, TensorType.F16, (2, tensor.shape[-1]))


@cache
def _ggml_functions() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """ggml_quantize_chunk and ggml_validate_row_data."""
    import llama_cpp as lib

    folder, size, pointer = Path(lib.__file__).parent / "lib", ctypes.c_size_t, ctypes.c_void_p
    try:
        rows = (ctypes.c_int64,) * 3
        quantize = ggml.load_function(
            folder, "ggml_quantize_chunk", size, ctypes.c_int, pointer, pointer, *rows, pointer
        )
        valid = ggml.load_function(
            folder, "ggml_validate_row_data", ctypes.c_bool, ctypes.c_int, pointer, size
        )
    except (AttributeError, OSError) as error:
        raise EngineError(
            f"the installed llama-cpp-python has no quantiser ({error})", "choose Q8_0 or install it again"
        ) from error
    return quantize, valid


def _try_to_write(partial: Path) -> None:
    """Append to a file that llama.cpp could not write: raises the system's error."""
    with partial.open("ab") as file:
        file.write(bytes(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _quantize_file(
    source: Path, partial: Path, kind: LlamaFileType, threads: int | None, importance: Importance
) -> None:
    import llama_cpp as lib

    LOG.attach(lib.llama_log_set)
    LOG.begin()
    params = lib.llama_model_quantize_default_params()
    params.nthread = threads or os.cpu_count() or 1
    params.ftype = int(kind)
    params.max_buf_size = BUFFER_BYTES
    columns = {name: np.ascontiguousarray(values, np.float32) for name, values in importance.items()}
    matrix = (lib.llama_model_imatrix_data * (len(columns) + 1))()  # the last one ends it
    for entry, (name, values) in zip(matrix, columns.items(), strict=False):
        entry.name, entry.size = name.encode(), len(values)
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if columns:
        params.imatrix = ctypes.cast(matrix, ctypes.POINTER(lib.llama_model_imatrix_data))
    status = lib.llama_model_quantize(bytes(source), bytes(partial), ctypes.byref(params))
    reason = " ".join(LOG.errors) or f"status {status}"
    if status and "iostream" in reason:  # llama.cpp's only message of a failed write
        _try_to_write(partial)
        hint = "free some space, or let a process open more files: ulimit -n 1024"
        raise StorageError(f"llama.cpp could not write into {partial.parent}", hint)
    if status:
        raise EngineError(f"llama.cpp could not quantise {source.name}: {reason}")
