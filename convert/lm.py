"""A published LLaMA checkpoint of YuE → one GGUF file, streamed in blocks of rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGML_QUANT_VERSION, Keys
from numpy.typing import NDArray

from yuegguf.lm.vocab import StageRole
from yuegguf.progress import Progress, silent

from .checkpoint import open_checkpoint
from .gguf_file import Tensor, TensorType, Value, ValueType, number, text
from .llama_tensors import (
    EMBEDDING,
    OUTPUT,
    LlamaConfig,
    TensorSpec,
    check_tensors,
    expected_tensors,
    read_config,
    rope_row_order,
)
from .quantize import OWN_TYPES, check_type, chosen_types, file_type, quantize_rows
from .safetensors import StoredTensor
from .source import checkpoint_folder
from .stream import TensorCopy, write_tensors
from .target import check_free
from .tokenizer_pieces import Vocab, read_vocab, stage_role, vocab_metadata
from .trim import role_metadata, trim_metadata, used_ids

SOURCE_URL = "https://github.com/multimodal-art-projection/YuE/tree/YuE-v1"


def convert_lm(
    source: Path,
    out: Path,
    *,
    out_type: str,
    role: Literal["auto", "stage1", "stage2"] = "auto",
    trim: bool = True,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Convert the checkpoint folder `source`, or a hub cache's, to the GGUF file `out`, and return `out`.

    `out_type` is one of quantize.OWN_TYPES or quantize.LLAMA_TYPES; norms stay F32. `role` "auto" goes by
    the config's context length. `trim` drops the rows that the stage never uses. `threads` (for
    llama.cpp's types) defaults to the cores. Nothing large but `out` is written. Progress counts bytes
    read. Single and sharded checkpoints give the same bytes. Raises ModelNotFound, DamagedFile (all
    misfits are listed before a byte is written; NaN and Inf as they are met), RequestError,
    StorageError, EngineError; `out` appears whole or not at all.
    """
    name = check_type(out_type)
    folder = checkpoint_folder(source)
    config, stored = read_config(folder), open_checkpoint(folder)
    specs = expected_tensors(config)
    check_tensors({key: tensor.shape for key, tensor in stored.items()}, specs)
    stage = stage_role(config.context, role, source.name)
    vocab = read_vocab(folder / "tokenizer.model", config.vocab)
    ids = used_ids(vocab.pieces, vocab.types, stage, "tokenizer.model") if trim else None
    metadata = lm_metadata(config, vocab, stage, name, ids)
    copies = [_tensor_copy(stored[key], spec, config, name, ids) for key, spec in specs.items()]
    check_free(out, overwrite)
    if name in OWN_TYPES:
        write_tensors(out, metadata, copies, overwrite=overwrite, progress=progress)
        return out
    kinds = chosen_types(metadata, [copy.target for copy in copies], name, out)
    named = {copy.target.name: copy for copy in copies}
    copies = [
        replace(named[key], target=replace(named[key].target, kind=kind)) for key, kind in kinds.items()
    ]

    def coded(values: NDArray[np.float32], tensor: Tensor, name: str) -> NDArray[np.uint8]:
        return quantize_rows(values, tensor.kind, name, threads)

    write_tensors(out, metadata, copies, overwrite=overwrite, progress=progress, coder=coded)
    return out


def _tensor_copy(
    stored: StoredTensor, spec: TensorSpec, config: LlamaConfig, out_type: str, ids: NDArray[np.int64] | None
) -> TensorCopy:
    kind = TensorType[out_type if out_type in OWN_TYPES else "F16"]  # else llama.cpp chooses later
    if len(spec.shape) == 1:
        kind = TensorType.F32
    elif out_type == "Q8_0" and spec.shape[-1] % 32:
        kind = TensorType.F16  # rows that blocks do not divide, as llama.cpp's converter does
    if spec.rotated:
        order = rope_row_order(spec.shape[0], config.head_dim)
        return TensorCopy(stored, Tensor(spec.name, kind, spec.shape), order, config.head_dim)
    if spec.name in (EMBEDDING, OUTPUT) and ids is not None:
        return TensorCopy(stored, Tensor(spec.name, kind, (len(ids), spec.shape[1])), ids, 1)
    return TensorCopy(stored, Tensor(spec.name, kind, spec.shape), None, 1)


def lm_metadata(
    config: LlamaConfig, vocab: Vocab, role: StageRole, out_type: str, ids: NDArray[np.int64] | None
) -> dict[str, Value]:
    """Metadata of a GGUF; `ids` are those of a trimmed vocabulary, `out_type` its main type."""

    def count(value: int) -> Value:
        return number(ValueType.UINT32, value)

    llama = {
        Keys.LLM.VOCAB_SIZE: count(config.vocab),
        Keys.LLM.CONTEXT_LENGTH: count(config.context),
        Keys.LLM.EMBEDDING_LENGTH: count(config.hidden),
        Keys.LLM.BLOCK_COUNT: count(config.layers),
        Keys.LLM.FEED_FORWARD_LENGTH: count(config.ffn),
        Keys.Attention.HEAD_COUNT: count(config.heads),
        Keys.Attention.HEAD_COUNT_KV: count(config.kv_heads),
        Keys.Attention.KEY_LENGTH: count(config.head_dim),
        Keys.Attention.VALUE_LENGTH: count(config.head_dim),
        Keys.Attention.LAYERNORM_RMS_EPS: number(ValueType.FLOAT32, config.eps),
        Keys.Rope.DIMENSION_COUNT: count(config.head_dim),
        Keys.Rope.FREQ_BASE: number(ValueType.FLOAT32, config.theta),
    }
    metadata = {
        Keys.General.ARCHITECTURE: text("llama"),
        Keys.General.TYPE: text("model"),
        Keys.General.NAME: text({"stage1": "YuE stage 1", "stage2": "YuE stage 2"}[role]),
        Keys.General.LICENSE: text("apache-2.0"),
        Keys.General.SOURCE_URL: text(SOURCE_URL),
        Keys.General.FILE_TYPE: count(int(file_type(out_type))),
        Keys.General.QUANTIZATION_VERSION: count(GGML_QUANT_VERSION),
        **{key.format(arch="llama"): value for key, value in llama.items()},
        **role_metadata(role, trimmed=False),
        **vocab_metadata(vocab),
    }
    return metadata if ids is None else trim_metadata(metadata, ids, role)
