"""Trims a model's vocabulary to the pieces that its stage uses.

Dropping a row of token_embd and output changes no other row's logit. Stage 2 reads three special
pieces and eight codebooks; stage 1 reads text, specials and codebook 0, and writes codebook 0 and
<EOA>. Quantised rows are whole blocks, so a finished GGUF is trimmed without quantising again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import Keys, TokenType
from numpy.typing import NDArray

from yuegguf.errors import RequestError
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.vocab import ROLE_KEY, TOKENIZER_KEY, StageRole
from yuegguf.progress import Event, Progress, silent

from .gguf_file import GgufFile, Tensor, Value, ValueType, number, numbers, text, write_gguf
from .llama_tensors import EMBEDDING, OUTPUT
from .target import partial_file
from .tokenizer_pieces import (
    CODEBOOKS,
    CODEC_PIECE,
    STAGE2_SPECIALS,
    check_pieces,
    stage_role,
    tokenizer_value,
)

BLOCK_BYTES = 16 << 20
"""Bytes copied at a time."""
TRIMMED_KEY, VERSION_KEY = "yuegguf.trimmed", "yuegguf.version"
SPECIAL_ID = re.compile(r"tokenizer\.ggml\.\w+_token_id")
PER_PIECE_KEYS = (Keys.Tokenizer.LIST, Keys.Tokenizer.SCORES, Keys.Tokenizer.TOKEN_TYPE)
VOCAB_SIZE = Keys.LLM.VOCAB_SIZE.format(arch="llama")


def used_ids(
    pieces: Sequence[str], types: NDArray[np.int32], role: StageRole, name: str
) -> NDArray[np.int64]:
    """Ids that a stage uses, ascending; 33,046 and 8,195 of the full YuE vocabulary.

    Raises DamagedFile naming the missing pieces.
    """
    if role == "stage2":
        check_pieces(pieces, STAGE2_SPECIALS, CODEBOOKS, name)
        codebooks = {f"<xcodec/{k}/{c}>" for k in range(CODEBOOKS) for c in range(1024)}
        used = codebooks.union(STAGE2_SPECIALS)
        return np.array([i for i, piece in enumerate(pieces) if piece in used], np.int64)
    check_pieces(pieces, ("<SOA>", "<EOA>", "<xcodec>"), 1, name)
    dropped = [
        types[i] == TokenType.UNUSED
        or (CODEC_PIECE.fullmatch(piece) is not None and not piece.startswith("<xcodec/0/"))
        for i, piece in enumerate(pieces)
    ]
    return np.flatnonzero(~np.array(dropped))


def role_metadata(role: StageRole, trimmed: bool) -> dict[str, Value]:
    """Metadata of a file's stage, trimming and writer."""
    return {
        ROLE_KEY: text(role),
        TRIMMED_KEY: number(ValueType.BOOL, trimmed),
        VERSION_KEY: text(version("yuegguf")),
    }


def trim_metadata(
    metadata: Mapping[str, Value], kept_ids: NDArray[np.int64], role: StageRole
) -> dict[str, Value]:
    """The metadata with per-piece lists shortened and special ids renumbered or left out.

    The tokenizer's bytes go with the text pieces, so stage 2 loses them.
    """
    new_id = {int(old): new for new, old in enumerate(kept_ids)}
    trimmed: dict[str, Value] = {}
    for key, value in metadata.items():
        if key in PER_PIECE_KEYS:
            trimmed[key] = _pick(value, kept_ids)
        elif SPECIAL_ID.fullmatch(key) and not value.array:
            if value.data in new_id:
                trimmed[key] = replace(value, data=new_id[value.data])
        elif key != TOKENIZER_KEY or role == "stage1":
            trimmed[key] = value
    trimmed[VOCAB_SIZE] = number(ValueType.UINT32, len(kept_ids))
    return trimmed | role_metadata(role, trimmed=True)


def is_trimmed(path: Path) -> bool:
    """Whether a file was trimmed by this package. Raises ModelNotFound, DamagedFile."""
    value = read_model(path).file.metadata.get(TRIMMED_KEY)
    return value is not None and bool(value.data)


def trim_gguf(
    source: Path,
    out: Path,
    role: str = "auto",
    *,
    overwrite: bool = False,
    progress: Progress = silent,
    tokenizer: bytes | None = None,
) -> Path:
    """Write `source` without the rows its stage never uses; every other byte of it is kept.

    The role is the file's own, or follows from its context length. `tokenizer`, a sentencepiece file, goes
    into a stage-1 file that has none. Raises ModelNotFound, DamagedFile,
    StorageError, and RequestError when the role is unknown or nothing is left to drop.
    """
    checked = read_model(source)
    model, pieces = checked.file, checked.pieces
    stage = stage_role(checked.shape.context, _role(model, role), source.name)
    kept = used_ids(pieces, model.metadata[Keys.Tokenizer.TOKEN_TYPE].data, stage, source.name)
    if len(kept) == len(pieces):
        raise RequestError(f"{source.name} is trimmed already", "use it as it is")
    metadata = trim_metadata(model.metadata, kept, stage)
    if tokenizer is not None and stage == "stage1":
        metadata.setdefault(TOKENIZER_KEY, tokenizer_value(tokenizer, "tokenizer.model"))
    tensors = [_trimmed(tensor, len(kept)) for tensor in model.tensors.values()]
    total, done = sum(tensor.size for tensor in model.tensors.values()), 0

    def blocks(tensor: Tensor) -> Iterator[NDArray[np.uint8]]:
        nonlocal done
        stored = model.tensors[tensor.name]
        step = max(1, BLOCK_BYTES // stored.row_bytes)
        for start in range(0, stored.rows, step):
            rows = model.read(stored, start, min(start + step, stored.rows))
            done += rows.size
            if tensor.rows != stored.rows:
                rows = rows[kept[(kept >= start) & (kept < start + step)] - start]
            yield np.ascontiguousarray(rows)
            progress(Event("convert", done, total, tensor.name))

    with partial_file(out, overwrite) as partial:
        write_gguf(partial, metadata, tensors, blocks)
        read_model(partial)
    return out


def _trimmed(tensor: Tensor, rows: int) -> Tensor:
    return replace(tensor, shape=(rows, tensor.shape[1])) if tensor.name in (EMBEDDING, OUTPUT) else tensor


def _pick(value: Value, kept_ids: NDArray[np.int64]) -> Value:
    if isinstance(value.data, list):
        return replace(value, data=[value.data[i] for i in kept_ids])
    return numbers(value.kind, value.data[kept_ids])


def _role(model: GgufFile, role: str) -> str:
    """The role as given, or that in the file's metadata for "auto"."""
    stored = model.metadata.get(ROLE_KEY)
    return role if stored is None or role != "auto" else stored.text
