"""YuE's vocabulary: from tokenizer.model to a GGUF's token list.

Piece names: YuE `mm_tokenizer_v0.2_hf/tokenizer.model`. Appended pieces are NORMAL with score 0,
so text never becomes one of them; padding rows of the embedding have no piece and become UNUSED.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
from gguf import Keys, TokenType
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError
from yuegguf.files.atomic import read_limited
from yuegguf.files.kinds import explain_absence, explain_damage
from yuegguf.lm.vocab import MAX_TOKENIZER_BYTES, ROLE_OF_CONTEXT, TOKENIZER_KEY, StageRole

from .gguf_file import Value, ValueType, number, numbers, text, texts

CODEBOOKS, CODEBOOK_SIZE = 8, 1024
"""Codebooks of X-Codec that YuE uses, and codes of each."""
APPENDED = (
    "<EOD>", "<SOA>", "<EOA>", "<SOI>", "<EOI>", "<SOV>", "<EOV>", "<s_local>", "<e_local>", "<s_global>",
    "<e_global>", "<semantic>", "<acoustic>", "<stage_1>", "<dac_16k>", "<dac_44k>", "<xcodec>", "<stage_2>",
    "<semantic_mert>", "<semantic_hubert>", "<visual>", "<semanticodec>",
)  # fmt: skip
"""Pieces between text and codes, in the published order."""
SPECIALS = ("<SOA>", "<EOA>", "<xcodec>", "<stage_1>", "<stage_2>")
STAGE2_SPECIALS = ("<SOA>", "<stage_1>", "<stage_2>")
"""Special pieces of stage 2."""
CODEC_PIECE = re.compile(r"<\w+(/\w+)+>")
"""<xcodec/0/7>, <semantic/a/3>, <mert/5>; no text or byte piece looks like this."""


@dataclass(frozen=True)
class Vocab:
    """Vocabulary with one piece per row of the embedding."""

    pieces: list[str]
    scores: NDArray[np.float32]
    types: NDArray[np.int32]
    """gguf.TokenType of each piece."""
    special_ids: dict[str, int]
    """GGUF key → id, for the ids that sentencepiece defines."""
    model: bytes
    """Bytes of the sentencepiece file."""


def read_vocab(path: Path, rows: int) -> Vocab:
    """Read tokenizer.model and pad it to `rows` pieces.

    sentencepiece's Python class cannot tell user-defined pieces from normal ones; YuE has none.
    Raises ModelNotFound, or DamagedFile for a damaged file, for another model's vocabulary and
    for more pieces than rows.
    """
    if not path.is_file():
        hint = "put YuE's tokenizer.model into the checkpoint's folder"
        raise explain_absence(path, ModelNotFound(f"there is no {path}", hint))
    model = read_limited(path, MAX_TOKENIZER_BYTES, "use YuE's own tokenizer.model")
    try:
        processor = _processor(model, path.name)
    except DamagedFile as error:
        raise explain_damage(path, error) from error
    count = int(processor.get_piece_size())
    if count > rows:
        raise DamagedFile(
            f"{path.name} has {count} pieces, but the model only {rows} rows", "use the model's own tokenizer"
        )
    try:
        pieces = [str(processor.id_to_piece(i)) for i in range(count)]
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path.name} has a piece that is not UTF-8 text", "download it again") from error
    check_pieces(pieces, SPECIALS, CODEBOOKS, path.name)
    pieces += [f"[PAD{i}]" for i in range(count, rows)]
    if len(set(pieces)) != rows:
        raise DamagedFile(f"{path.name} has a piece twice", "download it again")
    scores = np.zeros(rows, np.float32)
    scores[:count] = [processor.get_score(i) for i in range(count)]
    types = np.full(rows, TokenType.UNUSED, np.int32)
    types[:count] = [_type(processor, i) for i in range(count)]
    special = {
        Keys.Tokenizer.BOS_ID: processor.bos_id(),
        Keys.Tokenizer.EOS_ID: processor.eos_id(),
        Keys.Tokenizer.UNK_ID: processor.unk_id(),
    }
    return Vocab(pieces, scores, types, {key: i for key, i in special.items() if i >= 0}, model)


def tokenizer_value(model: bytes, name: str) -> Value:
    """Metadata value of a sentencepiece file. Raises DamagedFile when `model` is no such file."""
    _processor(model, name)
    return text(base64.b64encode(model).decode())


def check_pieces(pieces: Sequence[str], specials: Sequence[str], codebooks: int, name: str) -> None:
    """Raise DamagedFile naming the missing pieces of a YuE vocabulary."""
    index = {piece: i for i, piece in enumerate(pieces)}
    missing = [piece for piece in specials if piece not in index]
    for k in range(codebooks):
        ids = [index.get(f"<xcodec/{k}/{c}>", -1) for c in range(CODEBOOK_SIZE)]
        if -1 in ids:
            missing.append(f"<xcodec/{k}/{ids.index(-1)}>")
        elif ids != list(range(ids[0], ids[0] + CODEBOOK_SIZE)):
            raise DamagedFile(
                f"{name}: the pieces of codebook {k} are not in order", "use YuE's own tokenizer"
            )
    if missing:
        raise DamagedFile(
            f"{name} has the wrong vocabulary: it lacks {', '.join(missing)}", "use YuE's own tokenizer.model"
        )


def vocab_metadata(vocab: Vocab) -> dict[str, Value]:
    """The tokenizer part of a GGUF's metadata, as llama.cpp reads it for model "llama".

    Nothing is ever added to a text: YuE was trained without BOS and EOS.
    """
    return {
        Keys.Tokenizer.MODEL: text("llama"),
        Keys.Tokenizer.PRE: text("default"),
        Keys.Tokenizer.LIST: texts(vocab.pieces),
        Keys.Tokenizer.SCORES: numbers(ValueType.FLOAT32, vocab.scores),
        Keys.Tokenizer.TOKEN_TYPE: numbers(ValueType.INT32, vocab.types),
        **{key: number(ValueType.UINT32, i) for key, i in vocab.special_ids.items()},
        Keys.Tokenizer.ADD_BOS: number(ValueType.BOOL, False),
        Keys.Tokenizer.ADD_EOS: number(ValueType.BOOL, False),
        Keys.Tokenizer.ADD_PREFIX: number(ValueType.BOOL, True),
        TOKENIZER_KEY: text(base64.b64encode(vocab.model).decode()),
    }


def stage_role(context: int, role: str, name: str) -> StageRole:
    """The stage of a model: as given, or by its context length when `role` is "auto".

    Raises RequestError when neither determines it.
    """
    if role in ("stage1", "stage2"):
        return "stage1" if role == "stage1" else "stage2"
    if role != "auto":
        raise RequestError(f"there is no role {role!r}", "give auto, stage1 or stage2")
    if context not in ROLE_OF_CONTEXT:
        raise RequestError(
            f"{name} has a context of {context}, so its stage is unknown",
            "give its role: stage1 or stage2",
        )
    return ROLE_OF_CONTEXT[context]


def _processor(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except (RuntimeError, TypeError, ValueError) as error:
        raise DamagedFile(f"{name} is not a sentencepiece model", "download it again") from error
    return processor


def _type(processor: sentencepiece.SentencePieceProcessor, i: int) -> TokenType:
    if processor.is_byte(i):
        return TokenType.BYTE
    if processor.is_control(i):
        return TokenType.CONTROL
    if processor.is_unknown(i):
        return TokenType.UNKNOWN
    return TokenType.UNUSED if processor.is_unused(i) else TokenType.NORMAL
