"""The TokenEngine on llama.cpp, through the C API of llama-cpp-python; nothing else imports it.

The high-level `Llama` class has one row and copies logits, so it cannot serve. Rows have separate
KV streams: in a unified cache every row attends over the cells of all.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, EngineError, Interrupted, StorageError
from yuegguf.lm import ggml
from yuegguf.lm.adapters import Lora, read_adapter
from yuegguf.lm.batch import Batch
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.log import LOG
from yuegguf.lm.protocol import MAX_BATCH, SequenceInput

KV_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}

FLASH_ATTENTION = {True: lib.LLAMA_FLASH_ATTN_TYPE_ENABLED, False: lib.LLAMA_FLASH_ATTN_TYPE_DISABLED}
LIBRARIES = Path(lib.__file__).parent / "lib"

StopCheck = Callable[[], bool]


@dataclass(frozen=True)
class EngineOptions:
    """Everything about holding a model that can change a bit of its results."""

    n_ctx: int
    """Ids per row."""
    n_rows: int
    threads: int
    kv_type: str = "f16"
    flash_attention: bool = False
    """Needed by quantised caches; slower on the CPU where measured."""
    batch: int = MAX_BATCH
    """Most ids computed at once."""
    outputs: int = 2
    """Most ids of a row whose logits are asked for at once."""
    gpu_layers: int = 0
    """Layers to put on the GPU; -1 = all."""
    main_gpu: int | None = None
    """The only GPU to use, by number; None lets llama.cpp spread over all."""
    loras: tuple[Lora, ...] = ()
    """Adapters of the model; not loaded where their scale is 0."""
    watch: ggml.TensorObserver | None = None
    """Sees what is computed; slow."""


_started = False


def _init_backend() -> None:
    global _started
    LOG.attach(lib.llama_log_set)
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
        model = read_model(path)
        self.pieces: Sequence[str] = model.pieces
        self.metadata: Mapping[str, str] = model.metadata
        self._loras = [lora for lora in options.loras if lora.scale]
        for lora in self._loras:
            read_adapter(lora.path, model.shape.projections(), path.name)
        self._n_vocab = len(model.pieces)
        self._used = [0] * options.n_rows
        self._block = max(options.batch, max(2, options.outputs) * options.n_rows)
        self._batch = Batch(lib.llama_batch(), self._block)
        self.busy = 0.0
        """Seconds spent inside llama.cpp."""
        self._abort = lib.ggml_abort_callback(lambda _data: self._stop())
        self._no_abort = lib.ggml_abort_callback()
        self._asking = False
        self._seen_at = 0, 0
        self._view = np.empty((0, self._n_vocab), np.float32)
        with ExitStack() as undo:
            self._open(path, options, undo)
            self._held = undo.pop_all()

    def _open(self, path: Path, options: EngineOptions, undo: ExitStack) -> None:
        """Load model and adapters and make the context; `undo` frees whatever came to be."""
        loaded = _load_model(path, options, undo)
        used = self._loras
        adapters = [_load_adapter(loaded, lora.path) for lora in used]
        params = self._params(options)
        LOG.begin()
        context = acquire(undo, lib.llama_free, lib.llama_init_from_model, loaded, params)
        if not context:
            raise EngineError(
                f"llama.cpp could not open {path.name} with {options.n_rows} rows of {options.n_ctx} ids"
                + LOG.detail,
                "use a smaller --ctx or --stage2-batch",
            )
        handles = (lib.llama_adapter_lora_p_ctypes * len(used))(*adapters)
        scales = (ctypes.c_float * len(used))(*(lora.scale for lora in used))
        if used and lib.llama_set_adapters_lora(context, handles, len(used), scales):
            raise EngineError(f"llama.cpp could not use {', '.join(map(str, used))}", "leave --lora out")
        if lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(loaded)) != self._n_vocab:
            raise EngineError(f"llama.cpp reads {path.name} with another vocabulary", "convert it again")
        self._memory = lib.llama_get_memory(context)
        self._ctx = context

    def _params(self, options: EngineOptions) -> Any:
        params = lib.llama_context_default_params()
        params.n_ctx = options.n_ctx * options.n_rows
        params.n_seq_max = options.n_rows
        params.n_batch = params.n_ubatch = self._block
        params.n_outputs_max = options.outputs * options.n_rows
        params.n_threads = params.n_threads_batch = options.threads
        params.type_k = params.type_v = KV_TYPES[options.kv_type]
        params.flash_attn_type = FLASH_ATTENTION[options.flash_attention]
        params.kv_unified = False
        params.no_perf = True
        if options.watch:
            self._watcher = lib.ggml_backend_sched_eval_callback(ggml.eval_callback(LIBRARIES, options.watch))
            params.cb_eval = self._watcher
        return params

    def decode(self, rows: Sequence[SequenceInput]) -> NDArray[np.float32]:
        """Append ids to rows → logits [wanted, n_vocab], a view valid until the next call.

        Long rows go in blocks; how ids fall into blocks depends on their counts alone, so the same
        calls give the same bits.
        """
        self._check(rows)
        if sum(len(row.ids) for row in rows) > self._block:
            last = {row.row: max(1, row.wanted) for row in rows}
            for row in rows:
                for start in range(0, len(row.ids) - last[row.row], self._block):
                    block = row.ids[start : min(start + self._block, len(row.ids) - last[row.row])]
                    self._submit([SequenceInput(row.row, block, wanted=0)])
            rows = [SequenceInput(row.row, row.ids[-last[row.row] :], row.wanted) for row in rows]
        return self._submit(rows)

    def _check(self, rows: Sequence[SequenceInput]) -> None:
        self._check_open()
        if len({row.row for row in rows}) != len(rows):
            raise EngineError("a batch holds a row twice")
        for row in rows:
            most = min(self._outputs, len(row.ids))
            if not 0 <= row.row < self.n_rows or not row.ids or not 0 <= row.wanted <= most:
                raise EngineError(f"row {row.row} of {self.n_rows} with {len(row.ids)} ids cannot be decoded")
            if self._used[row.row] + len(row.ids) > self.n_ctx:
                raise EngineError(
                    f"the context of {self.n_ctx} ids is full", "use a larger --ctx or shorter sections"
                )

    def _check_open(self, *rows: int) -> None:
        """Refuse what llama.cpp would crash over: a freed context, a row that is not there."""
        if self._ctx is None:
            raise EngineError("the model has been closed", "open it again")
        if wrong := [row for row in rows if not 0 <= row < self.n_rows]:
            raise EngineError(f"there is no row {wrong[0]} among {self.n_rows}")

    def _submit(self, rows: Sequence[SequenceInput]) -> NDArray[np.float32]:
        wanted = self._batch.fill(rows, self._used)
        self._ask_to_stop(self._batch.size > 4 * self.n_rows)
        LOG.begin()
        begun = time.perf_counter()
        status = lib.llama_decode(self._ctx, self._batch.struct)
        pointer = lib.llama_get_logits(self._ctx) if wanted and not status else None  # waits for a GPU
        self.busy += time.perf_counter() - begun
        if status:
            for row in rows:  # llama.cpp keeps the parts of a batch that it had computed
                lib.llama_memory_seq_rm(self._memory, row.row, self._used[row.row], -1)
        if status == 2:
            raise Interrupted("stopped while reading the prompt")
        if status != 0:
            raise EngineError(
                f"llama.cpp could not decode{LOG.detail or f' (status {status})'}", "use a smaller --ctx"
            )
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
        address = ctypes.cast(cast(Any, pointer), ctypes.c_void_p).value
        if not address:
            raise EngineError(
                f"llama.cpp computed no logits{LOG.detail}",
                "try --device cpu",
            )
        if (address, wanted) != self._seen_at:  # llama.cpp's buffer stays where it is
            buffer = (ctypes.c_float * (wanted * self._n_vocab)).from_address(address)
            self._view = np.ctypeslib.as_array(buffer).reshape(wanted, self._n_vocab)
            self._seen_at = address, wanted
        return self._view

    def forget(self, row: int, keep: int) -> None:
        """Drop the row's cache after its first `keep` ids."""
        self._check_open(row)
        if keep < 0:
            raise EngineError(f"a row cannot keep {keep} ids")
        if keep < self._used[row]:
            lib.llama_memory_seq_rm(self._memory, row, keep, -1)
            self._used[row] = keep

    def copy(self, src: int, dst: int) -> None:
        """Make row `dst` hold what row `src` holds."""
        self._check_open(src, dst)
        if src == dst:
            return
        self.forget(dst, 0)
        lib.llama_memory_seq_cp(self._memory, src, dst, -1, -1)
        self._used[dst] = self._used[src]

    def save(self, row: int, path: Path) -> None:
        """Write the row's cache, with its length, to `path`. Raises StorageError."""
        self._check_open(row)
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
        self._ctx = None
        self._held.close()


def acquire(
    undo: ExitStack, free: Callable[[Any], object], make: Callable[..., Any], *arguments: object
) -> Any:
    """Call a C function that makes something, and let `undo` free it.

    A Ctrl-C during the call is raised once it returns, before its result can be assigned; `extend` has
    put it where `undo` finds it by then.
    """
    found: list[Any] = []

    def release() -> None:
        if found and found[0]:
            free(found[0])

    undo.callback(release)
    found.extend(map(make, *((argument,) for argument in arguments)))
    return found[0]


def _load_model(path: Path, options: EngineOptions, undo: ExitStack) -> object:
    _init_backend()
    LOG.begin()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = options.gpu_layers
    if options.main_gpu is not None:
        params.main_gpu, params.split_mode = options.main_gpu, lib.LLAMA_SPLIT_MODE_NONE
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE  # weights are reordered: a mapped file would stay beside them
    model = acquire(undo, lib.llama_model_free, lib.llama_model_load_from_file, bytes(path), params)
    if not model:
        raise DamagedFile(
            f"{path.name} is not a GGUF that llama.cpp can load{LOG.detail}", "convert it again"
        )
    return cast(object, model)


def _load_adapter(model: object, path: Path) -> object:
    """An adapter in memory; the model frees it. Must be there before a context is opened."""
    LOG.begin()
    adapter = lib.llama_adapter_lora_init(model, bytes(path))
    if not adapter:
        raise DamagedFile(
            f"{path.name} is not an adapter that llama.cpp can load{LOG.detail}", "convert it again"
        )
    return cast(object, adapter)


def devices() -> list[dict[str, str | int]]:
    """The devices of llama.cpp, see `ggml.devices`."""
    _init_backend()
    return ggml.devices(LIBRARIES)


def build_info() -> dict[str, str]:
    """Version and abilities of the installed llama.cpp, for `doctor`."""
    _init_backend()
    return {
        "llama-cpp-python": str(lib.__version__),
        "system": lib.llama_print_system_info().decode(errors="replace").strip(),
        "gpu": "yes" if lib.llama_supports_gpu_offload() else "no",
    }
