"""Text → ids: where the tokenizer comes from, and that text stays text."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest
import sentencepiece
from yuegguf_convert.tokenizer_pieces import read_vocab

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.tokenizer import Tokenizer, open_tokenizer
from yuegguf.lm.vocab import MAX_TOKENIZER_BYTES, TOKENIZER_KEY
from yuegguf.models.resolve import nano_models

MODEL = nano_models().stage1
HEADER = read_model(MODEL)
PIECES, METADATA = HEADER.pieces, HEADER.metadata
BYTES = base64.b64decode(METADATA[TOKENIZER_KEY])
BARE = {key: value for key, value in METADATA.items() if key != TOKENIZER_KEY}
TEXT_PIECES = PIECES.index("<EOD>")
CONTROLS = ("<s>", "</s>", "<unk>", "<EOD>", "<SOA>", "<EOA>", "<xcodec>", "<stage_1>", "<xcodec/0/5>")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer(METADATA, PIECES, MODEL)


@pytest.mark.parametrize(
    "text",
    ["", "[verse]\n", "[start_of_segment]", "12", "a  b", " a", "月", "<EOA>", "▁", "<0x41>", "\0", "é🎵"],
)
def test_ids_spell_the_text_and_are_sentencepieces(text: str, tokenizer: Tokenizer) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_proto=BYTES)
    ids = tokenizer.encode(text)
    assert [PIECES[i] for i in ids] == processor.encode(text, out_type=str)
    assert spelled(ids) == (" " + text.replace("▁", " ") if text else "")


def spelled(ids: list[int]) -> str:
    """Pieces joined; byte pieces are the ids from 3 on."""
    parts = (bytes([i - 3]) if i < 259 else PIECES[i].replace("▁", " ").encode() for i in ids)
    return b"".join(parts).decode()


def test_no_text_gives_a_control_id(tokenizer: Tokenizer) -> None:
    chance = random.Random(1)
    bits = (*CONTROLS, "la", " ", "\n", "[verse]", "▁", "<0x41>", "月", "🎵", "\0")
    for _ in range(500):
        text = "".join(chance.choices(bits, k=8))
        ids = tokenizer.encode(text)
        assert all(3 <= i < TEXT_PIECES for i in ids), text
        assert len(ids) <= len(text.encode()) + 1


def test_the_tokenizer_inside_a_model_wins_over_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"never read")
    assert spelled(open_tokenizer(METADATA, PIECES, tmp_path / "model.gguf").encode("hello")) == " hello"


def test_a_model_without_one_takes_the_file_beside_it(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = tmp_path / "model.gguf"
    with pytest.raises(ModelNotFound) as caught:
        open_tokenizer(BARE, PIECES, model)
    beside = tmp_path / "tokenizer.model"
    hint = f"put YuE's tokenizer.model beside it, as {beside}"
    assert str(caught.value) == f"model.gguf carries no tokenizer; {hint}"
    beside.write_bytes(BYTES)
    assert open_tokenizer(BARE, PIECES, model).encode("月 la") == tokenizer.encode("月 la")


def test_ids_are_the_models_not_the_tokenizers(tokenizer: Tokenizer) -> None:
    """A model whose rows are in another order still gets the pieces that were meant."""
    turned = PIECES[::-1]
    ids = Tokenizer(BYTES, turned).encode("hold the road 7")
    assert [turned[i] for i in ids] == [PIECES[i] for i in tokenizer.encode("hold the road 7")]


@pytest.mark.parametrize("content", [b"", b"rubbish", BYTES[: len(BYTES) // 2], b"\0" * 100])
def test_damaged_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(DamagedFile, match="tokenizer"):
        Tokenizer(content, PIECES)


@pytest.mark.parametrize("text", ["not base64!", "é", "=", "\ud800", "QQ", "\0"])
def test_text_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(DamagedFile, match=r"the tokenizer inside stage1\.gguf is damaged; convert it again"):
        open_tokenizer({TOKENIZER_KEY: text}, PIECES, MODEL)


def test_a_tokenizer_without_an_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.model").open("wb") as file:
        file.truncate(MAX_TOKENIZER_BYTES + 1)
    with pytest.raises(DamagedFile, match="is larger than 32 MiB; use YuE's own"):
        open_tokenizer(BARE, PIECES, tmp_path / "model.gguf")
    with pytest.raises(DamagedFile, match="is larger than 32 MiB; use YuE's own"):
        read_vocab(tmp_path / "tokenizer.model", len(PIECES))


PIECE = BYTES.index(b"<xcodec>")


@pytest.mark.parametrize(
    "content",
    [
        BYTES[:PIECE] + b"\xff\xfe\xfd\xfc" + BYTES[PIECE + 4 :],
        BYTES[:PIECE] + b"<stage_" + BYTES[PIECE + 7 :],
        BYTES[:PIECE] + b"<xcodec/" + BYTES[PIECE + 8 :],
        *(BYTES[:size] for size in range(1, len(BYTES), len(BYTES) // 40)),
    ],
)
def test_a_damaged_tokenizer_model_converts_to_nothing(content: bytes, tmp_path: Path) -> None:
    """Pieces that are not UTF-8, that are twice or missing, and files that end inside a message."""
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(DamagedFile, match=r"tokenizer\.model"):
        read_vocab(tmp_path / "tokenizer.model", len(PIECES))


def test_another_models_tokenizer_is_refused() -> None:
    foreign = [f"word{i}" for i in range(len(PIECES))]
    with pytest.raises(DamagedFile, match="the tokenizer does not belong to this model"):
        Tokenizer(BYTES, foreign)
    taken = Tokenizer(BYTES, PIECES).encode("hello")[-1]
    lacking = ["" if i == taken else piece for i, piece in enumerate(PIECES)]
    with pytest.raises(DamagedFile, match="the tokenizer does not belong to this model"):
        Tokenizer(BYTES, lacking).encode("hello")
