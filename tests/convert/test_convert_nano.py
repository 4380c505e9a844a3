"""The small tokenizer and the random checkpoints follow YuE's layout and are the same everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from safetensors.numpy import load_file

from nano.lm_weights import LlamaSpec, tensors_of, write_llama
from nano.tokenizer import TEXT_PIECES, appended_pieces, build_tokenizer

SPEC = LlamaSpec(hidden=64, layers=2, heads=4, kv_heads=2, ffn=96, vocab=9300, context=8192)


@pytest.fixture(scope="module")
def processor() -> sentencepiece.SentencePieceProcessor:
    found = sentencepiece.SentencePieceProcessor()
    found.LoadFromSerializedProto(build_tokenizer())
    return found


def test_the_tokenizer_is_the_same_each_time() -> None:
    assert build_tokenizer() == build_tokenizer()


def test_layout(processor: sentencepiece.SentencePieceProcessor) -> None:
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    assert len(pieces) == len(set(pieces)) == TEXT_PIECES + 22 + 8 * 1024
    assert pieces[:3] == ["<unk>", "<s>", "</s>"]
    assert pieces[3:259] == [f"<0x{i:02X}>" for i in range(256)]
    assert pieces[TEXT_PIECES:] == appended_pieces()
    assert pieces[TEXT_PIECES + 22 + 1024 * 3 + 7] == "<xcodec/3/7>"
    assert "▁[" in pieces
    assert {processor.get_score(i) for i in range(TEXT_PIECES, len(pieces))} == {0.0}
    flags = (processor.is_control, processor.is_unused, processor.is_byte, processor.is_unknown)
    assert not any(flag(i) for i in range(TEXT_PIECES, len(pieces)) for flag in flags)


def test_text_never_becomes_an_appended_piece(processor: sentencepiece.SentencePieceProcessor) -> None:
    """The same law as for the real file, where all 51,734 appended pieces were tried."""
    for piece in appended_pieces():
        for text in (piece, f"x{piece}", f"{piece}{piece}"):
            assert max(processor.encode(text)) < TEXT_PIECES


def test_text_is_kept(processor: sentencepiece.SentencePieceProcessor) -> None:
    for text in (
        "[verse]\nHold the morning\n\n",
        "  two  spaces ",
        "月亮 🎵",
        "é e\u0301 Ａ",
        "room 101",
        "\t\n",
    ):
        assert processor.decode(processor.encode(text)) == text
    assert processor.encode("") == []
    assert processor.encode("\n[verse]")[1] == 3 + 10


def test_the_real_specials_are_ours(reference_tokenizer: sentencepiece.SentencePieceProcessor) -> None:
    real = [reference_tokenizer.id_to_piece(i) for i in range(32000, 32022)]
    assert real == appended_pieces()[:22]


@pytest.fixture
def reference_tokenizer() -> sentencepiece.SentencePieceProcessor:
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "tokenizer.model"
    if not path.exists():
        pytest.skip("golden data not on this machine: shared/data/tokenizer.model")
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def test_weights_are_the_same_everywhere(tmp_path: Path) -> None:
    """A fixed digest: integer draws times float32 leave nothing to the machine."""
    write_llama(tmp_path, SPEC, 7, b"tokenizer")
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "9e297f08a2bb6f5012a05503224fda92962345f5cb61838c8a232c1bac0d0abd"


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_weights(tmp_path: Path, dtype: str) -> None:
    write_llama(tmp_path / "one", SPEC, 7, b"t", dtype=dtype)
    write_llama(tmp_path / "two", SPEC, 7, b"t", dtype=dtype, shards=3)
    one = load_file(tmp_path / "one" / "model.safetensors")
    two = {k: v for path in (tmp_path / "two").glob("*.safetensors") for k, v in load_file(path).items()}
    assert one.keys() == two.keys()
    for tensor in tensors_of(SPEC):
        np.testing.assert_array_equal(one[tensor.name], two[tensor.name])
        values = one[tensor.name].astype(np.float64)
        assert values.shape == tensor.shape
        assert values.std() == pytest.approx(tensor.std, rel=0.2)
        assert values.mean() == pytest.approx(tensor.mean, abs=5 * tensor.std / np.sqrt(values.size))
    assert (tmp_path / "two" / "model.safetensors.index.json").exists()
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()
