"""TokenEngine on llama.cpp, through the C API of llama-cpp-python.

The high-level `Llama` class has one sequence and copies logits, so it cannot serve. Sequences have separate
KV streams: in a unified cache each attends over the cells of all. All streams of a context are equally long.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, EngineError, Interrupted, StorageError
from yuegguf.lm import ggml, streams
from yuegguf.lm.adapters import Lora, read_adapter
from yuegguf.lm.batch import Batch, fillers_of
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.loading import LIBRARIES, acquire, load_adapter, load_model
from yuegguf.lm.log import LOG
from yuegguf.lm.protocol import MAX_BATCH, SequenceInput, in_blocks

KV_TYPES = {
    "f32": lib.GGML_TYPE_F32,
    "f16": lib.GGML_TYPE_F16,
    "q8_0": lib.GGML_TYPE_Q8_0,
    "q4_0": lib.GGML_TYPE_Q4_0,
}

LOGITS_ADDRESS = ctypes.CFUNCTYPE(ctypes.c_void_p, lib.llama_context_p_ctypes)(
    ctypes.cast(lib.llama_get_logits, ctypes.c_void_p).value or 0
)
"""llama_get_logits with the address alone; the binding's makes objects of each."""
FLASH_ATTENTION = {True: lib.LLAMA_FLASH_ATTN_TYPE_ENABLED, False: lib.LLAMA_FLASH_ATTN_TYPE_DISABLED}

StopCheck = Callable[[], bool]


@dataclass(frozen=True)
class EngineOptions:
    """Every setting of a loaded model that can change a bit of its results."""

    n_ctx: int
    """Ids per sequence."""
    n_rows: int
    """Number of sequences."""
    threads: int
    kv_type: str = "f16"
    flash_attention: bool = False
    """Needed by quantised caches; slower on the CPU where measured."""
    batch: int = MAX_BATCH
    """Maximum ids per llama.cpp batch."""
    outputs: int = 2
    """Maximum `n_logits` of a sequence in one call."""
    gpu_layers: int = 0
    """Number of layers on the GPU; -1 = all."""
    main_gpu: int | None = None
    """Number of the only GPU to use; None lets llama.cpp spread over all."""
    rpc_server: str | None = None
    """HOST:PORT of the RPC server that holds the GPU layers."""
    loras: tuple[Lora, ...] = ()
    """Adapters of the model; not loaded where their scale is 0."""
    repack: bool = True
    """Whether weights are laid out anew for faster kernels of this processor; see `amx_trial`."""
    observer: ggml.TensorObserver | None = None
    """Receives values of the graph as they are computed; slow."""


class LlamaEngine:
    """One model with `n_rows` sequences; see TokenEngine for the methods."""

    def __init__(self, path: Path, options: EngineOptions, stop: StopCheck = lambda: False) -> None:
        """Load a GGUF and its adapters.

        Raises ModelNotFound, DamagedFile or EngineError (not enough memory for the cache).

        `stop` is called during long prompts; when it returns true, `decode` raises Interrupted.
        """
        self._path, self._options, self._stop = path, options, stop
        self._outputs = options.outputs
        model = read_model(path)
        self.pieces: Sequence[str] = model.pieces
        self.metadata: Mapping[str, str] = model.metadata
        self._loras = [lora for lora in options.loras if lora.scale]
        for lora in self._loras:
            read_adapter(lora.path, model.shape.projections(), path.name)
        self._n_vocab = len(model.pieces)
        self.busy = 0.0
        """Seconds spent inside llama.cpp."""
        self._abort = lib.ggml_abort_callback(lambda _data: self._stop())
        self._no_abort = lib.ggml_abort_callback()
        self._context = ExitStack()
        with ExitStack() as undo:
            self._model = load_model(
                model.file.path,
                options.gpu_layers,
                options.main_gpu,
                options.rpc_server,
                undo,
                repack=options.repack,
            )
            self._adapters = [load_adapter(self._model, lora.path) for lora in self._loras]
            if lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model)) != self._n_vocab:
                raise EngineError(f"llama.cpp reads {path.name} with another vocabulary", "convert it again")
            undo.callback(lambda: self._context.close())
            self._open_context(options.n_rows, options.n_ctx)
            self._resources = undo.pop_all()

    def _open_context(self, n_rows: int, n_ctx: int) -> None:
        """Open a context of empty sequences. Raises EngineError."""
        block = max(self._options.batch, max(2, self._outputs) * n_rows)
        with ExitStack() as undo:
            LOG.begin()
            params = self._params(n_rows, n_ctx, block)
            context = acquire(undo, lib.llama_free, lib.llama_init_from_model, self._model, params)
            if not context:
                raise EngineError(
                    f"llama.cpp could not open {self._path.name} with {n_rows} sequences of {n_ctx} ids"
                    + LOG.detail,
                    "use a smaller --ctx, --stage2-batch or --parallel",
                )
            loras = self._loras
            handles = (lib.llama_adapter_lora_p_ctypes * len(loras))(*self._adapters)
            scales = (ctypes.c_float * len(loras))(*(lora.scale for lora in loras))
            if loras and lib.llama_set_adapters_lora(context, handles, len(loras), scales):
                raise EngineError(f"llama.cpp could not use {', '.join(map(str, loras))}", "leave --lora out")
            self._memory = lib.llama_get_memory(context)
            self._context = undo.pop_all()
        self._ctx = context
        self.n_rows, self.n_ctx, self.n_batch = n_rows, n_ctx, block
        self._used, self._batch = [0] * n_rows, Batch(lib.llama_batch(), block)
        self._abort_set = False
        self._view_of = 0, 0
        """Address and number of rows of the current logits view."""
        self._view = np.empty((0, self._n_vocab), np.float32)

    def _params(self, n_rows: int, n_ctx: int, block: int) -> Any:
        options, params = self._options, lib.llama_context_default_params()
        params.n_ctx = n_ctx * n_rows
        params.n_seq_max = n_rows
        params.n_batch = params.n_ubatch = block
        params.n_outputs_max = options.outputs * n_rows
        params.n_threads = params.n_threads_batch = options.threads
        params.type_k = params.type_v = KV_TYPES[options.kv_type]
        params.flash_attn_type = FLASH_ATTENTION[options.flash_attention]
        params.kv_unified = False
        params.no_perf = True
        if options.observer:
            self._eval_callback = lib.ggml_backend_sched_eval_callback(
                ggml.eval_callback(LIBRARIES, options.observer)
            )
            params.cb_eval = self._eval_callback
        return params

    def decode(self, inputs: Sequence[SequenceInput]) -> NDArray[np.float32]:
        """Append ids to sequences → logits [sum of n_logits, n_vocab], a view valid until the next call.

        Long inputs go in blocks (see `in_blocks`).
        """
        self._check(inputs)
        for block in in_blocks(inputs, self.n_batch):
            logits = self._submit(block)
        return logits

    def _check(self, inputs: Sequence[SequenceInput]) -> None:
        self._check_open()
        if not inputs or len({each.seq for each in inputs}) != len(inputs):
            raise EngineError("a batch holds no sequence, or one twice")
        for each in inputs:
            count = len(each.ids)
            if (
                not 0 <= each.seq < self.n_rows
                or not 0 <= each.n_logits <= min(self._outputs, count)
                or not count
            ):
                raise EngineError(f"sequence {each.seq} of {self.n_rows} with {count} ids cannot be decoded")
            if self._used[each.seq] + count > self.n_ctx:
                raise EngineError(
                    f"the context of {self.n_ctx} ids is full", "use a larger --ctx or shorter sections"
                )

    def _check_open(self, *seqs: int) -> None:
        """Refuse a closed context and unknown sequences, over which llama.cpp would crash."""
        if self._ctx is None:
            raise EngineError("the model has been closed", "open it again")
        if wrong := [seq for seq in seqs if not 0 <= seq < self.n_rows]:
            raise EngineError(f"there is no sequence {wrong[0]} among {self.n_rows}")

    def _submit(self, inputs: Sequence[SequenceInput]) -> NDArray[np.float32]:
        fillers = fillers_of(inputs, self._used, self.n_ctx, self.n_batch)
        if fillers:
            inputs = sorted([*inputs, *fillers], key=lambda each: each.seq)
        n_logits = self._batch.fill(inputs, self._used)
        self._set_abort(self._batch.size > 4 * self.n_rows)
        LOG.begin()
        begun = time.perf_counter()
        status = lib.llama_decode(self._ctx, self._batch.struct)
        address = LOGITS_ADDRESS(self._ctx) if n_logits and not status else None  # waits for a GPU
        self.busy += time.perf_counter() - begun
        if status:
            for each in inputs:  # llama.cpp keeps the parts of a batch that it had computed
                lib.llama_memory_seq_rm(self._memory, each.seq, self._used[each.seq], -1)
        if status == 2:
            raise Interrupted("stopped while reading the prompt")
        if status != 0:
            raise EngineError(
                f"llama.cpp could not decode{LOG.detail or f' (status {status})'}", "use a smaller --ctx"
            )
        for each in inputs:
            self._used[each.seq] += len(each.ids)
        for each in fillers:
            self.forget(each.seq, self._used[each.seq] - 1)
        return self._logits(n_logits, address)

    def _set_abort(self, on: bool) -> None:
        """Let llama.cpp call `stop`; it does so for each node of its graph, so only in prompts."""
        if on != self._abort_set:
            callback = self._abort if on else self._no_abort
            lib.llama_set_abort_callback(self._ctx, callback, ctypes.c_void_p(0))
            self._abort_set = on

    def _logits(self, count: int, address: int | None) -> NDArray[np.float32]:
        if not count:
            return np.empty((0, self._n_vocab), np.float32)
        if not address:
            raise EngineError(f"llama.cpp computed no logits{LOG.detail}", "try --device cpu")
        if (address, count) != self._view_of:  # llama.cpp's buffer stays where it is
            buffer = (ctypes.c_float * (count * self._n_vocab)).from_address(address)
            self._view = np.ctypeslib.as_array(buffer).reshape(count, self._n_vocab)
            self._view_of = address, count
        return self._view

    def forget(self, seq: int, keep: int) -> None:
        """Drop the sequence's cache after its first `keep` ids."""
        self._check_open(seq)
        if keep < 0:
            raise EngineError(f"a sequence cannot keep {keep} ids")
        if keep < self._used[seq]:
            lib.llama_memory_seq_rm(self._memory, seq, keep, -1)
            self._used[seq] = keep

    def copy(self, src: int, dst: int) -> None:
        """Replace the cache of sequence `dst` by that of `src`."""
        self._check_open(src, dst)
        if src == dst:
            return
        self.forget(dst, 0)
        lib.llama_memory_seq_cp(self._memory, src, dst, -1, -1)
        self._used[dst] = self._used[src]

    def save(self, seq: int, path: Path) -> None:
        """Write the sequence's cache, with its length, to `path`. Raises StorageError."""
        self._check_open(seq)
        count = (lib.llama_token * 1)(self._used[seq])
        if not lib.llama_state_seq_save_file(self._ctx, bytes(path), seq, count, 1):
            raise StorageError(f"could not write {path}", "free some disk space, then resume the song")

    def load(self, seq: int, path: Path) -> None:
        """Replace the sequence's cache by a saved one. Raises DamagedFile, StorageError."""
        self.forget(seq, 0)
        count, n_tokens = (lib.llama_token * 1)(), ctypes.c_size_t()
        LOG.begin()
        with streams.readable(path, self.n_rows) as file:
            loaded = lib.llama_state_seq_load_file(
                self._ctx, bytes(file), seq, count, 1, ctypes.byref(n_tokens)
            )
        if not loaded or n_tokens.value != 1 or not 0 <= count[0] <= self.n_ctx:
            self._used[seq] = 1
            self.forget(seq, 0)
            raise DamagedFile(
                f"{path.name} is not a cache of this model, or llama.cpp could not load it{LOG.detail}",
                "resume the song again",
            )
        self._used[seq] = int(count[0])

    def resize(self, n_rows: int, n_ctx: int) -> None:
        """Change the number of sequences and their length, by a new context into which the caches are copied.

        Raises EngineError; nothing is changed then, or it is closed if the old context cannot be opened.
        """
        self._check_open()
        before = self.n_rows, self.n_ctx
        if (n_rows, n_ctx) == before:
            return
        if max(self._used[:n_rows]) > n_ctx:
            raise EngineError(f"a sequence holds more than {n_ctx} ids", "keep its length")
        states = [(seq, used, self.cache(seq)) for seq, used in enumerate(self._used) if used]
        try:
            self._replace_context(n_rows, n_ctx, [state for state in states if state[0] < n_rows])
        except EngineError:
            self._replace_context(*before, states)
            raise

    def _replace_context(self, n_rows: int, n_ctx: int, states: Sequence[tuple[int, int, Any]]) -> None:
        """Open another context with caches: sequence, length and cache of each. Raises EngineError."""
        self._ctx = None
        self._context.close()  # two contexts at once might not fit
        self._open_context(n_rows, n_ctx)
        for state in states:
            self.put_cache(*state)

    def length(self, seq: int) -> int:
        """Ids in the sequence's cache."""
        self._check_open(seq)
        return self._used[seq]

    def cache(self, seq: int) -> NDArray[np.uint8]:
        """A sequence's cache, which must not be empty."""
        self._check_open(seq)
        cache = np.empty(lib.llama_state_seq_get_size(self._ctx, seq), np.uint8)
        lib.llama_state_seq_get_data(self._ctx, _pointer(cache), cache.size, seq)
        return cache

    def put_cache(self, seq: int, length: int, cache: NDArray[np.uint8]) -> None:
        """Replace a sequence's cache by one of another context of the same model. Raises EngineError."""
        self.forget(seq, 0)
        state = np.concatenate(streams.with_streams(cache, streams.DATA_START, self.n_rows))
        if not lib.llama_state_seq_set_data(self._ctx, _pointer(state), state.size, seq):
            raise EngineError("llama.cpp could not copy a cache", "resume the song")
        self._used[seq] = length

    def close(self) -> None:
        """Free the context and the model."""
        self._ctx = None
        self._resources.close()


def _pointer(array: NDArray[np.uint8]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
