"""A whole language model of 40 KB, and copies of it with one thing wrong."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import TokenType
from yuegguf_convert.gguf_file import Tensor, TensorType, Value, write_gguf
from yuegguf_convert.llama_tensors import LlamaConfig, expected_tensors
from yuegguf_convert.lm import lm_metadata
from yuegguf_convert.tokenizer_pieces import Vocab

PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁[", "<SOA>", "<EOA>", "ü"]
CONFIG = LlamaConfig(
    hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=64, vocab=len(PIECES), context=64,
    eps=1e-5, theta=1e4, tied=False,
)  # fmt: skip
Metadata, Tensors = dict[str, Value], list[Tensor]
Change = Callable[[Metadata, Tensors], object]


def write_tiny(path: Path, change: Change = lambda metadata, tensors: None) -> Path:
    """The model in F16, with metadata and tensors changed in place before they are written."""
    types = np.full(len(PIECES), TokenType.NORMAL, np.int32)
    types[:3], types[3:259] = TokenType.CONTROL, TokenType.BYTE
    ids = {f"tokenizer.ggml.{name}_token_id": i for i, name in enumerate(("unknown", "bos", "eos"))}
    vocab = Vocab(PIECES, np.zeros(len(PIECES), np.float32), types, ids, b"")
    metadata = lm_metadata(CONFIG, vocab, "stage1", "F16", None)
    kinds = {1: TensorType.F32, 2: TensorType.F16}
    tensors = [
        Tensor(want.name, kinds[len(want.shape)], want.shape) for want in expected_tensors(CONFIG).values()
    ]
    change(metadata, tensors)
    write_gguf(path, metadata, tensors, lambda tensor: [weights(tensor)])
    return path


def weights(tensor: Tensor) -> np.ndarray:
    """Small values, the same for every tensor of a shape."""
    values = np.random.default_rng(0).normal(0, 0.1, (tensor.rows, tensor.shape[-1])).astype(np.float32)
    if tensor.kind == TensorType.F32:
        return values.view(np.uint8)
    return (
        values.astype(np.float16).view(np.uint8)
        if tensor.kind == TensorType.F16
        else np.zeros(tensor.size, np.uint8)
    )


EXTREMES = (0, 1, 2, 31, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
REALS = (float("nan"), float("inf"), -1.0, 0.0, 1e-45)


def mutated(whole: bytes, header: int, chance: random.Random) -> bytes:
    """The file with one to three bytes, numbers or stretches of its first `header` bytes changed."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at, kind = chance.randrange(header), chance.randrange(7)
        if kind == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 2:
            data[at : at + 8] = struct.pack("<Q", chance.choice(EXTREMES))
        elif kind == 3:
            data[at : at + 4] = struct.pack("<I", chance.choice(EXTREMES) & 0xFFFFFFFF)
        elif kind == 4:
            data[at : at + 4] = struct.pack(
                "<f", chance.choice((float("nan"), float("inf"), -1.0, 0.0, 1e-45))
            )
        elif kind == 5:
            other, size = chance.randrange(header), chance.randrange(1, 24)
            data[at : at + size] = data[other : other + size]
        else:
            del data[at : at + chance.randrange(1, 9)]
    return bytes(data)
