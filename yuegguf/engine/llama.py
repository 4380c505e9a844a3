"""The TokenEngine on llama.cpp, through the C API of llama-cpp-python; nothing else imports it.

The high-level `Llama` class has one row and copies logits, so it cannot serve. Rows have separate
KV streams: in a unified cache every row attends over the cells of all.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from yuegguf.engine import ggml
from yuegguf.engine.base import BATCH, Row
from yuegguf.engine.batch import Batch
from yuegguf.errors import DamagedFile, EngineError, Interrupted, ModelNotFound, StorageError, YueError
from yuegguf.lora import Lora, check_adapter, llama_weights

KV_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}

FLASH = {True: lib.LLAMA_FLASH_ATTN_TYPE_ENABLED, False: lib.LLAMA_FLASH_ATTN_TYPE_DISABLED}
LIBRARIES = Path(lib.__file__).parent / "lib"
LOG_LEVEL_ERROR = 4
"""ggml's GGML_LOG_LEVEL_ERROR, which the binding does not export."""

StopCheck = Callable[[], bool]


@dataclass(frozen=True)
class EngineOptions:
    """How to hold a model; everything that can change a result bit is in here."""

    n_ctx: int
    """Ids per row."""
    n_rows: int
    threads: int
    kv_type: str = "f16"
    flash_attention: bool = False
    """Needed by quantised caches; slower on the CPU where measured."""
    batch: int = BATCH
    """Most ids computed at once."""
    outputs: int = 2
    """Most ids of a row whose logits are asked for at once."""
    gpu_layers: int = 0
    """Layers to put on the GPU; -1 = all."""
    main_gpu: int | None = None
    """Which GPU to use alone; None lets llama.cpp spread over all."""
    loras: tuple[Lora, ...] = ()
    """Adapters of the model; not loaded where their scale is 0."""
    watch: ggml.Watch | None = None
    """Sees what is computed; slow."""


class _Log:
    """llama.cpp's log, kept quiet; the first complaint explains a failure."""

    def __init__(self) -> None:
        self.complaint = ""
        self.callback = lib.llama_log_callback(self._note)

    def _note(self, level: int, text: bytes, _data: object) -> None:
        line = text.decode(errors="replace").strip()
        if level == LOG_LEVEL_ERROR and line and not self.complaint:
            self.complaint = line


_log = _Log()
_started = False


def _start() -> None:
    global _started
    lib.llama_log_set(_log.callback, ctypes.c_void_p(0))
    if not _started:
        lib.llama_backend_init()
        _started = True


class LlamaEngine:
    """One model with `n_rows` rows; see TokenEngine for the methods."""

    def __init__(self, path: Path, options: EngineOptions, stop: StopCheck = lambda: False) -> None:
        """Load a GGUF and its adapters.

        Raises ModelNotFound, DamagedFile or EngineError (not enough memory for the cache).

        `stop` is asked during long prompts; when it says yes, `decode` raises Interrupted.
        """
        self.n_ctx, self.n_rows = options.n_ctx, options.n_rows
        self._stop, self._outputs = stop, options.outputs
        self._model = _load_model(path, options.gpu_layers, options.main_gpu)
        try:
            self._ctx = self._open_context(path, options)
        except YueError:
            lib.llama_model_free(self._model)  # and the adapters with it
            raise
        self._memory = lib.llama_get_memory(self._ctx)
        self._vocab = lib.llama_model_get_vocab(self._model)
        self._n_vocab = int(lib.llama_vocab_n_tokens(self._vocab))
        self.pieces: Sequence[str] = tuple(_piece(self._vocab, i) for i in range(self._n_vocab))
        self.metadata: Mapping[str, str] = _metadata(self._model)
        self._used = [0] * options.n_rows
        self._block = max(options.batch, 2 * options.n_rows)
        self._batch = Batch(lib.llama_batch(), self._block)
        self.busy = 0.0
        """Seconds spent inside llama.cpp."""
        self._abort = lib.ggml_abort_callback(lambda _data: self._stop())
        self._no_abort = lib.ggml_abort_callback()
        self._asking = False
        self._seen_at = 0, 0
        self._view = np.empty((0, self._n_vocab), np.float32)

    def _open_context(self, path: Path, options: EngineOptions) -> object:
        used = [lora for lora in options.loras if lora.scale]
        adapters = [_load_adapter(self._model, lora.path, path) for lora in used]
        params = lib.llama_context_default_params()
        params.n_ctx = options.n_ctx * options.n_rows
        params.n_seq_max = options.n_rows
        params.n_batch = params.n_ubatch = max(options.batch, 2 * options.n_rows)
        params.n_outputs_max = options.outputs * options.n_rows
        params.n_threads = params.n_threads_batch = options.threads
        params.type_k = params.type_v = KV_TYPES[options.kv_type]
        params.flash_attn_type = FLASH[options.flash_attention]
        params.kv_unified = False
        params.no_perf = True
        if options.watch:
            self._watcher = lib.ggml_backend_sched_eval_callback(ggml.watcher(LIBRARIES, options.watch))
            params.cb_eval = self._watcher
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise EngineError(
                f"llama.cpp could not open {path.name} with {options.n_rows} rows of {options.n_ctx} ids"
                + (f" ({_log.complaint})" if _log.complaint else ""),
                "use a smaller --ctx or --stage2-batch",
            )
        handles = (lib.llama_adapter_lora_p_ctypes * len(used))(*adapters)
        scales = (ctypes.c_float * len(used))(*(lora.scale for lora in used))
        if used and lib.llama_set_adapters_lora(context, handles, len(used), scales):
            lib.llama_free(context)
            raise EngineError(f"llama.cpp could not use {', '.join(map(str, used))}", "leave --lora out")
        return context

    def decode(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Append ids to rows → logits [wanted, n_vocab], a view valid until the next call.

        Long rows go in blocks; how ids fall into blocks depends on their counts alone, so the same
        calls give the same bits.
        """
        self._check(rows)
        if sum(len(row.ids) for row in rows) > self._block:
            for row in rows:
                for start in range(0, len(row.ids) - 1, self._block):
                    block = row.ids[start : min(start + self._block, len(row.ids) - 1)]
                    self._submit([Row(row.row, block, wanted=0)])
            rows = [Row(row.row, row.ids[-1:], row.wanted) for row in rows]
        return self._submit(rows)

    def _check(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if not 0 <= row.row < self.n_rows or not row.ids or row.wanted > min(self._outputs, len(row.ids)):
                raise EngineError(f"row {row.row} of {self.n_rows} with {len(row.ids)} ids cannot be decoded")
            if self._used[row.row] + len(row.ids) > self.n_ctx:
                raise EngineError(
                    f"the context of {self.n_ctx} ids is full", "use a larger --ctx or shorter sections"
                )

    def _submit(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        wanted = self._batch.fill(rows, self._used)
        self._ask_to_stop(self._batch.size > 4 * self.n_rows)
        _log.complaint = ""
        begun = time.perf_counter()
        status = lib.llama_decode(self._ctx, self._batch.struct)
        pointer = lib.llama_get_logits(self._ctx) if wanted and not status else None  # waits for a GPU
        self.busy += time.perf_counter() - begun
        if status == 2:
            raise Interrupted("stopped while reading the prompt")
        if status != 0:
            detail = _log.complaint or f"status {status}"
            raise EngineError(f"llama.cpp could not decode: {detail}", "use a smaller --ctx")
        for row in rows:
            self._used[row.row] += len(row.ids)
        return self._logits(wanted, pointer)

    def _ask_to_stop(self, asking: bool) -> None:
        """Whether llama.cpp asks for `stop`: a call for each node of its graph, so only in prompts."""
        if asking != self._asking:
            callback = self._abort if asking else self._no_abort
            lib.llama_set_abort_callback(self._ctx, callback, ctypes.c_void_p(0))
            self._asking = asking

    def _logits(self, wanted: int, pointer: object) -> NDArray[np.float32]:
        if not wanted:
            return np.empty((0, self._n_vocab), np.float32)
        address = ctypes.cast(cast(Any, pointer), ctypes.c_void_p).value or 0
        if (address, wanted) != self._seen_at:  # llama.cpp's buffer stays where it is
            buffer = (ctypes.c_float * (wanted * self._n_vocab)).from_address(address)
            self._view = np.ctypeslib.as_array(buffer).reshape(wanted, self._n_vocab)
            self._seen_at = address, wanted
        return self._view

    def forget(self, row: int, keep: int) -> None:
        """Drop the row's cache after its first `keep` ids."""
        if keep < self._used[row]:
            lib.llama_memory_seq_rm(self._memory, row, keep, -1)
            self._used[row] = keep

    def copy(self, src: int, dst: int) -> None:
        """Make row `dst` hold what row `src` holds."""
        self.forget(dst, 0)
        lib.llama_memory_seq_cp(self._memory, src, dst, -1, -1)
        self._used[dst] = self._used[src]

    def save(self, row: int, path: Path) -> None:
        """Write the row's cache, with its length, to `path`. Raises StorageError."""
        count = (lib.llama_token * 1)(self._used[row])
        if not lib.llama_state_seq_save_file(self._ctx, bytes(path), row, count, 1):
            raise StorageError(f"could not write {path}", "free some disk space, then resume the song")

    def load(self, row: int, path: Path) -> None:
        """Replace the row's cache by a saved one. Raises DamagedFile."""
        self.forget(row, 0)
        count, found = (lib.llama_token * 1)(), ctypes.c_size_t()
        done = lib.llama_state_seq_load_file(self._ctx, bytes(path), row, count, 1, ctypes.byref(found))
        if not done or found.value != 1 or not 0 <= count[0] <= self.n_ctx:
            self._used[row] = 1
            self.forget(row, 0)
            raise DamagedFile(f"{path.name} is not a cache of this model", "delete it and resume again")
        self._used[row] = int(count[0])

    def close(self) -> None:
        """Free the context and the model."""
        if self._model:
            lib.llama_free(self._ctx)
            lib.llama_model_free(self._model)
            self._model = None


def read_header(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """A GGUF's pieces and scalar metadata, without its weights. Raises ModelNotFound, DamagedFile."""
    model = _load_model(path, 0, None, vocab_only=True)
    vocab = lib.llama_model_get_vocab(model)
    pieces = tuple(_piece(vocab, i) for i in range(lib.llama_vocab_n_tokens(vocab)))
    metadata = _metadata(model)
    lib.llama_model_free(model)
    return pieces, metadata


def _load_model(path: Path, gpu_layers: int, main_gpu: int | None, vocab_only: bool = False) -> object:
    if not path.is_file():
        raise ModelNotFound(f"there is no model file {path}", "see: yuegguf models list")
    _start()
    _log.complaint = ""
    params = lib.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    if main_gpu is not None:
        params.main_gpu, params.split_mode = main_gpu, lib.LLAMA_SPLIT_MODE_NONE
    params.vocab_only = vocab_only
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE  # weights are reordered: a mapped file would stay beside them
    model = lib.llama_model_load_from_file(bytes(path), params)
    if not model:
        detail = f" ({_log.complaint})" if _log.complaint else ""
        raise DamagedFile(f"{path.name} is not a GGUF that llama.cpp can load{detail}", "convert it again")
    return model


def read_adapter(path: Path, metadata: Mapping[str, str], base: Path) -> int:
    """Check a LoRA adapter against the metadata of the model in `base`; returns the adapter's bytes.

    Raises ModelNotFound, DamagedFile saying what does not fit.
    """
    _start()
    check_adapter(ggml.read_head(LIBRARIES, path), llama_weights(metadata), base.name)
    return path.stat().st_size


def _load_adapter(model: object, path: Path, base: Path) -> object:
    """An adapter in memory; the model frees it. Must be there before a context is opened."""
    read_adapter(path, _metadata(model), base)
    _log.complaint = ""
    adapter = lib.llama_adapter_lora_init(model, bytes(path))
    if not adapter:
        detail = f" ({_log.complaint})" if _log.complaint else ""
        raise DamagedFile(
            f"{path.name} is not an adapter that llama.cpp can load{detail}", "convert it again"
        )
    return adapter


def _piece(vocab: object, token: int) -> str:
    return bytes(lib.llama_vocab_get_text(vocab, token)).decode(errors="replace")


def _metadata(model: object) -> dict[str, str]:
    count = lib.llama_model_meta_count(model)
    return {
        _sized(lib.llama_model_meta_key_by_index, model, i): _sized(
            lib.llama_model_meta_val_str_by_index, model, i
        )
        for i in range(count)
    }


def _sized(read: Callable[..., int], model: object, index: int) -> str:
    """Call a C function that fills a buffer and returns the full length, with room enough."""
    buffer = ctypes.create_string_buffer(256)
    length = read(model, index, buffer, len(buffer))
    if length >= len(buffer):
        buffer = ctypes.create_string_buffer(length + 1)
        read(model, index, buffer, len(buffer))
    return buffer.value.decode(errors="replace")


def devices() -> list[dict[str, str | int]]:
    """What llama.cpp can compute on, see `ggml.devices`."""
    _start()
    return ggml.devices(LIBRARIES)


def build_info() -> dict[str, str]:
    """What the installed llama.cpp can do, for `doctor`."""
    _start()
    return {
        "llama-cpp-python": str(lib.__version__),
        "system": lib.llama_print_system_info().decode(errors="replace").strip(),
        "gpu": "yes" if lib.llama_supports_gpu_offload() else "no",
    }
