"""Quantise a GGUF with llama.cpp's own quantiser; nothing else here imports llama_cpp.

llama.cpp chooses the type of each tensor, falls back where a row does not divide into blocks
(stage 2's ffn_down has 5,504 columns) and keeps the metadata.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from gguf import GGMLQuantizationType, LlamaFileType

from yuegguf.errors import EngineError, RequestError, StorageError

from .gguf_file import read_gguf
from .output import partial_file

DIRECT = ("F32", "F16", "BF16", "Q8_0")
"""Types that the converter writes itself."""
BY_LLAMA = (
    "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS",
    "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K",
)  # fmt: skip
"""Types that need llama.cpp and no importance matrix, largest first."""
EXACT = {GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16}
BUFFER = 512 << 20
"""Bytes of tensor rows that llama.cpp holds at once; its default is 8 GiB."""
LOG_ERROR = 4
"""ggml's GGML_LOG_LEVEL_ERROR."""


def check_type(out_type: str) -> str:
    """The name in capitals. Raises RequestError listing the valid ones."""
    name = out_type.upper()
    if name not in DIRECT + BY_LLAMA:
        raise RequestError(f"there is no type {out_type!r}", f"choose one of {', '.join(DIRECT + BY_LLAMA)}")
    return name


def file_type(name: str) -> LlamaFileType:
    """The number that `general.file_type` and llama.cpp use for a type."""
    return LlamaFileType.ALL_F32 if name == "F32" else LlamaFileType[f"MOSTLY_{name}"]


def quantize_gguf(
    source: Path, out: Path, out_type: str, threads: int | None = None, overwrite: bool = False
) -> Path:
    """Write `source` (F32, F16 or BF16) again as `out_type`.

    `threads` defaults to the machine's cores. Raises ModelNotFound, DamagedFile, StorageError,
    RequestError for an unknown type or an already quantised source, EngineError when llama.cpp
    refuses; nothing is left behind then.
    """
    name = check_type(out_type)
    if any(tensor.kind not in EXACT for tensor in read_gguf(source).tensors.values()):
        raise RequestError(
            f"{source.name} is quantised already, and twice would lose more",
            "start from an F32, F16 or BF16 file",
        )
    with partial_file(out, overwrite) as partial:
        _run(source, partial, file_type(name), threads)
        read_gguf(partial)  # a short file is found here, before it gets its name
    return out


def _run(source: Path, partial: Path, kind: LlamaFileType, threads: int | None) -> None:
    import llama_cpp as lib

    complaints, callback = _log()
    complaints.clear()
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    params = lib.llama_model_quantize_default_params()
    params.nthread = threads or os.cpu_count() or 1
    params.ftype = int(kind)
    params.max_buf_size = BUFFER
    status = lib.llama_model_quantize(bytes(source), bytes(partial), ctypes.byref(params))
    reason = " ".join(complaints) or f"status {status}"
    if status and "iostream" in reason:  # all that llama.cpp says of a write that failed
        raise StorageError(
            f"could not write into {partial.parent}", "free some space or choose another folder"
        )
    if status:
        raise EngineError(f"llama.cpp could not quantise {source.name}: {reason}")


@cache
def _log() -> tuple[list[str], object]:
    """llama.cpp's complaints, and the callback that collects them; it must outlive every call."""
    import llama_cpp as lib

    complaints: list[str] = []

    def note(level: int, line: bytes, _data: object) -> None:
        if level == LOG_ERROR:
            complaints.append(line.decode(errors="replace").strip())

    return complaints, lib.llama_log_callback(note)
