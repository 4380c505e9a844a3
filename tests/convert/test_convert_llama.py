"""The converted files inside llama.cpp: loaded without complaint, the same logits as transformers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp as lib
import numpy as np
import pytest
import sentencepiece
import torch
from transformers import LlamaForCausalLM
from yuegguf_convert.gguf_file import read_gguf
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.tokenizer_pieces import TOKENIZER_KEY
from yuegguf_convert.trim import trim_gguf

from nano.lm_weights import LlamaSpec, write_llama
from nano.tokenizer import build_tokenizer
from yuegguf.lm import vocab as runtime_vocab
from yuegguf.lm.tokenizer import open_tokenizer

LOG: list[tuple[int, str]] = []
CALLBACK = lib.llama_log_callback(lambda level, line, _data: LOG.append((level, line.decode())))
ERROR = 4


@contextmanager
def loaded(path: Path) -> Iterator[object]:
    lib.llama_log_set(CALLBACK, ctypes.c_void_p(0))
    LOG.clear()
    model = lib.llama_model_load_from_file(bytes(path), lib.llama_model_default_params())
    assert model, LOG
    yield model
    lib.llama_model_free(model)


def logits(path: Path, ids: list[int]) -> np.ndarray:
    """[len(ids), vocab] through the bare C API: F32 cache, no flash attention, one thread."""
    with loaded(path) as model:
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = max(256, len(ids))
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = lib.GGML_TYPE_F32
        params.flash_attn_type = 0
        context = lib.llama_init_from_model(model, params)
        batch = lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
            batch.seq_id[i][0], batch.logits[i] = 0, True
        assert lib.llama_decode(context, batch) == 0
        n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        found = np.ctypeslib.as_array(lib.llama_get_logits(context), (len(ids), n_vocab)).copy()
        lib.llama_batch_free(batch)
        lib.llama_free(context)
        return found


@pytest.mark.parametrize(
    "spec",
    [
        LlamaSpec(hidden=96, layers=3, heads=6, kv_heads=2, ffn=160, vocab=9900, context=16384),
        LlamaSpec(hidden=64, layers=2, heads=2, kv_heads=2, ffn=224, vocab=9814, context=8192, theta=5e5),
        LlamaSpec(hidden=128, layers=2, heads=8, kv_heads=1, ffn=96, vocab=9900, context=8192, tied=True),
    ],
)
def test_logits_equal_transformers(tmp_path: Path, spec: LlamaSpec) -> None:
    write_llama(tmp_path, spec, 11, build_tokenizer(), dtype="F32", shards=2)
    ids = np.random.default_rng(2).integers(0, spec.vocab, 60).tolist()
    oracle = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = oracle(torch.tensor([ids])).logits[0].numpy()
    found = logits(convert_lm(tmp_path, tmp_path / "m.gguf", out_type="F32", trim=False), ids)
    assert np.abs(found - expected).max() < 1e-4
    assert 2 < expected.std() < 5  # varied, so that a wrong row order cannot hide


def test_trimming_changes_no_logit(tmp_path: Path) -> None:
    spec = LlamaSpec(hidden=64, layers=2, heads=4, kv_heads=4, ffn=96, vocab=9900, context=8192)
    write_llama(tmp_path / "checkpoint", spec, 4, build_tokenizer())
    whole = convert_lm(tmp_path / "checkpoint", tmp_path / "a.gguf", out_type="Q8_0", trim=False)
    short = trim_gguf(whole, tmp_path / "b.gguf")
    pieces = read_gguf(whole).metadata["tokenizer.ggml.tokens"].texts
    kept = [pieces.index(piece) for piece in read_gguf(short).metadata["tokenizer.ggml.tokens"].texts]
    ids = np.random.default_rng(3).integers(0, len(kept), 50).tolist()
    np.testing.assert_array_equal(logits(short, ids), logits(whole, [kept[i] for i in ids])[:, kept])


def test_the_runtime_finds_its_keys(tmp_path: Path) -> None:
    spec = LlamaSpec(hidden=32, layers=1, heads=2, kv_heads=2, ffn=32, vocab=9900, context=16384)
    write_llama(tmp_path, spec, 4, build_tokenizer())
    for role in ("stage1", "stage2"):
        out = convert_lm(tmp_path, tmp_path / f"{role}.gguf", out_type="Q8_0", role=role)
        metadata = read_gguf(out).metadata
        strings = {
            key: value.text
            for key, value in metadata.items()
            if key.startswith("yuegguf.") and value.kind == 8
        }
        pieces = metadata["tokenizer.ggml.tokens"].texts
        runtime_vocab.check_role(strings, role, out.name)
        if role == "stage2":
            assert runtime_vocab.stage2_vocab(pieces).codebooks.tolist() == [3 + 1024 * k for k in range(8)]
            continue
        assert runtime_vocab.stage1_vocab(pieces).codebook0 == 1622
        ids = open_tokenizer(strings, pieces, out).encode("[verse]\nHold the morning <EOA>\n")
        plain = sentencepiece.SentencePieceProcessor()
        plain.LoadFromSerializedProto(build_tokenizer())
        assert ids == plain.encode("[verse]\nHold the morning <EOA>\n")


def check_pieces(path: Path) -> list[tuple[int, str]]:
    """llama.cpp reads the pieces as written; returns its complaints."""
    expected = read_gguf(path).metadata["tokenizer.ggml.tokens"].texts
    with loaded(path) as model:
        vocab = lib.llama_model_get_vocab(model)
        assert lib.llama_vocab_n_tokens(vocab) == len(expected)
        assert [lib.llama_vocab_get_text(vocab, i).decode() for i in range(len(expected))] == expected
        buffer = ctypes.create_string_buffer(3 << 20)
        size = lib.llama_model_meta_val_str(model, TOKENIZER_KEY.encode(), buffer, len(buffer))
        embedded = read_gguf(path).metadata.get(TOKENIZER_KEY)
        assert (buffer.value if size >= 0 else None) == (embedded.data if embedded else None)
        assert not lib.llama_vocab_get_add_bos(vocab)
        return [(level, line) for level, line in LOG if level in (3, ERROR)]


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_golden_files_load_quietly(
    reference_checkpoint: Callable[[str], Path], tmp_path: Path, stage: str, trim: bool
) -> None:
    out = convert_lm(
        reference_checkpoint(stage), tmp_path / "m.gguf", out_type="Q4_K_M", trim=trim, threads=1
    )
    complaints = check_pieces(out)
    if stage == "stage2" and trim:  # without text there is no newline and no </s>; both are only warnings
        assert [level for level, _ in complaints] == [3, 3]
    else:
        assert complaints == []


def test_golden_logits(
    reference_checkpoint: Callable[[str], Path], golden: Callable[[str], Path], tmp_path: Path
) -> None:
    """The official code's prompt and logits, recorded in the golden data."""
    whole = convert_lm(reference_checkpoint("stage1"), tmp_path / "m.gguf", out_type="F32", trim=False)
    fed, expected = np.load(golden("stage1_text.npz")), np.load(golden("stage1_text_seg1_logits.npz"))["cond"]
    ids = [*fed["seg1_input_ids"].ravel().tolist(), *fed["seg1_new_ids"].ravel()[:19].tolist()]
    assert np.abs(logits(whole, ids)[-20:] - expected).max() < 1e-4


def test_golden_trimmed_stage2_logits(reference_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    whole = convert_lm(reference_checkpoint("stage2"), tmp_path / "a.gguf", out_type="F32", trim=False)
    short = convert_lm(reference_checkpoint("stage2"), tmp_path / "b.gguf", out_type="F32")
    kept = [32001, 32013, 32017, *range(45334, 53526)]
    ids = [0, 1, *range(3, 203, 7), 2, *range(1100, 1150)]
    difference = logits(short, ids) - logits(whole, [kept[i] for i in ids])[:, kept]
    assert np.abs(difference).max() < 2e-5  # F32 sums are ordered by tiles, and 8,195 rows tile otherwise
