"""A GGUF's pieces and scalar metadata as llama.cpp itself reads them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import llama_cpp as lib

from yuegguf.lm.loading import init_backend


def as_llama_cpp_reads(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Pieces and metadata, which `gguf_model.read_model` must equal."""
    init_backend()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    model = lib.llama_model_load_from_file(bytes(path), params)
    assert model
    vocab = lib.llama_model_get_vocab(model)
    count = lib.llama_vocab_n_tokens(vocab)
    pieces = tuple(bytes(lib.llama_vocab_get_text(vocab, i)).decode() for i in range(count))
    readers = (lib.llama_model_meta_key_by_index, lib.llama_model_meta_val_str_by_index)
    values = [[sized(read, model, i) for read in readers] for i in range(lib.llama_model_meta_count(model))]
    lib.llama_model_free(model)
    return pieces, {key: value for key, value in values}


def sized(read: Callable[..., int], model: object, index: int) -> str:
    """Call a C function that fills a buffer and returns the full length, with room enough."""
    buffer = ctypes.create_string_buffer(read(model, index, ctypes.create_string_buffer(1), 1) + 1)
    read(model, index, buffer, len(buffer))
    return buffer.value.decode()
