"""Text → ids: where the tokenizer comes from, and that text stays text."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
import sentencepiece

from yuegguf.engine.llama import read_header
from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.runtime import nano_models
from yuegguf.tokenizer import Tokenizer, open_tokenizer
from yuegguf.vocab import TOKENIZER_KEY, stage1_vocab

MODEL = nano_models().stage1
PIECES, METADATA = read_header(MODEL)
BYTES = base64.b64decode(METADATA[TOKENIZER_KEY])
BARE = {key: value for key, value in METADATA.items() if key != TOKENIZER_KEY}
TEXT_PIECES = 1000


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer(METADATA, PIECES, MODEL)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("[verse]\n", ["▁[verse]", "<0x0A>"]),
        ("[start_of_segment]", ["▁[start_of_segment]"]),
        ("12", ["▁", "<0x31>", "<0x32>"]),
        ("月", ["▁", "<0xE6>", "<0x9C>", "<0x88>"]),
    ],
)
def test_ids_of_known_texts(text: str, pieces: list[str], tokenizer: Tokenizer) -> None:
    found = [PIECES[i] for i in tokenizer.encode(text)]
    processor = sentencepiece.SentencePieceProcessor(model_proto=BYTES)
    assert found == processor.encode(text, out_type=str) or any(p.startswith("<0x") for p in found)
    assert "".join(_text(piece) for piece in found) == (" " + text if text else "")
    if text and not text.startswith("["):
        assert found == pieces


def _text(piece: str) -> str:
    """What a piece stands for; bytes of one character are joined by the caller's latin-1 trick."""
    return piece.replace("▁", " ") if not piece.startswith("<0x") else chr(int(piece[3:5], 16))
