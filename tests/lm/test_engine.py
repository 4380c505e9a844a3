"""The engine on llama.cpp, with random weights: rows, caches, errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
import pytest
from numpy.typing import NDArray
from through_llama import as_llama_cpp_reads
from yuegguf_convert.llama_tensors import LlamaConfig
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.synthetic import write_synthetic

from nano import tokenizer, untrained
from nano.lm_weights import write_llama
from yuegguf.errors import DamagedFile, EngineError, Interrupted, StorageError
from yuegguf.lm.llama import MAX_BATCH, EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.lm.vocab import stage1_vocab

FILES: dict[str, Path] = {}
"""The model, once `made` has made it. A trained one is so sharp that the last bit of a sum shows."""
LONG = [int(i) for i in np.random.default_rng(0).integers(259, 900, 3 * MAX_BATCH + 70)]
TEXT, OTHER = LONG[:40], LONG[40:65]


@pytest.fixture(scope="module", autouse=True)
def made(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("engine")
    pieces = tokenizer.TEXT_PIECES + len(tokenizer.appended_pieces())
    write_llama(folder, untrained.spec(pieces, 16384), untrained.STAGE1_SEED, tokenizer.build_tokenizer())
    FILES["stage1"] = convert_lm(folder, folder / "stage1.gguf", out_type="Q8_0")


def opened(rows: int = 3, n_ctx: int = 256, kv_type: str = "f32") -> LlamaEngine:
    return LlamaEngine(FILES["stage1"], EngineOptions(n_ctx, rows, threads=1, kv_type=kv_type))


@pytest.fixture
def engine() -> Iterator[LlamaEngine]:
    with closing(opened()) as engine:
        yield engine


def logits_of(engine: LlamaEngine, row: int, ids: Sequence[int]) -> NDArray[np.float32]:
    return engine.decode([SequenceInput(row, ids)])[0].copy()


def one_by_one(engine: LlamaEngine, row: int, ids: Sequence[int]) -> NDArray[np.float32]:
    for i in ids:
        last = engine.decode([SequenceInput(row, [i])])
    return last[0].copy()


def test_pieces_and_metadata_are_the_files(engine: LlamaEngine) -> None:
    pieces, metadata = engine.pieces, engine.metadata
    assert (pieces, metadata) == as_llama_cpp_reads(FILES["stage1"])
    assert pieces[:3] == ("<unk>", "<s>", "</s>")
    assert (pieces[3], pieces[258]) == ("<0x00>", "<0xFF>")
    text = pieces.index("<EOD>")
    assert pieces[text : text + 3] == ("<EOD>", "<SOA>", "<EOA>")
    assert pieces[text + 22 :] == tuple(f"<xcodec/0/{code}>" for code in range(1024))
    assert metadata["yuegguf.role"] == "stage1"
    assert metadata["llama.context_length"] == "16384"
    assert len(metadata["yuegguf.tokenizer.model"]) > 100_000  # longer than any fixed buffer
    assert stage1_vocab(pieces).codebook0 == text + 22


def test_rows_do_not_see_each_other(engine: LlamaEngine) -> None:
    alone = logits_of(engine, 0, TEXT)
    logits_of(engine, 1, OTHER)
    with_others = engine.decode([SequenceInput(0, [7]), SequenceInput(1, [9]), SequenceInput(2, TEXT)])
    assert np.abs(with_others[2] - alone).max() < 1e-4
    with closing(opened()) as fresh:
        logits_of(fresh, 0, TEXT)
        assert np.abs(fresh.decode([SequenceInput(0, [7])])[0] - with_others[0]).max() < 1e-4


def test_only_wanted_rows_come_back_in_the_order_given(engine: LlamaEngine) -> None:
    first, second = logits_of(engine, 0, TEXT), logits_of(engine, 1, OTHER)
    for row in range(3):
        engine.forget(row, 0)
    answer = engine.decode(
        [SequenceInput(1, OTHER), SequenceInput(2, TEXT, n_logits=0), SequenceInput(0, TEXT)]
    )
    assert answer.shape == (2, len(engine.pieces))
    assert np.abs(answer[0] - second).max() < 1e-4
    assert np.abs(answer[1] - first).max() < 1e-4
    assert engine.decode([SequenceInput(1, [5], n_logits=0)]).shape == (0, len(engine.pieces))


def test_a_long_row_in_blocks_equals_one_by_one() -> None:
    with closing(opened(2, 2048)) as engine:
        blocks = logits_of(engine, 0, LONG)
        steps = one_by_one(engine, 1, LONG)
        assert np.abs(blocks - steps).max() < 1e-4
        engine.forget(0, 0)
        assert (logits_of(engine, 0, LONG) == blocks).all()


@pytest.mark.parametrize("kv_type", ["f16", "f32"])
def test_same_calls_same_bits(kv_type: str) -> None:
    answers = []
    for _ in range(2):
        with closing(opened(2, 1024, kv_type)) as engine:
            engine.decode([SequenceInput(0, LONG[:-5]), SequenceInput(1, LONG[-5:])])
            answers.append(
                [engine.decode([SequenceInput(0, [i]), SequenceInput(1, [i])]).copy() for i in TEXT[:10]]
            )
    assert np.array_equal(*answers)


def test_a_saved_row_comes_back_bit_for_bit(engine: LlamaEngine, tmp_path: Path) -> None:
    logits_of(engine, 1, TEXT)
    engine.save(1, tmp_path / "row")
    expected = one_by_one(engine, 1, OTHER)
    engine.load(1, tmp_path / "row")
    assert (one_by_one(engine, 1, OTHER) == expected).all()
    with closing(opened()) as other:
        logits_of(other, 1, OTHER)  # what the row held before is gone
        other.load(1, tmp_path / "row")
        assert (one_by_one(other, 1, OTHER) == expected).all()


def test_a_cache_of_something_else_is_refused_and_the_row_is_empty(
    engine: LlamaEngine, tmp_path: Path
) -> None:
    expected = logits_of(engine, 0, TEXT)
    engine.save(0, tmp_path / "row")
    whole = (tmp_path / "row").read_bytes()
    for content in (b"", b"something else", whole[: len(whole) // 2], whole[:40] + whole[41:]):
        (tmp_path / "row").write_bytes(content)
        with pytest.raises(DamagedFile, match="is not a cache of this model"):
            engine.load(0, tmp_path / "row")
        assert (logits_of(engine, 0, TEXT) == expected).all()
    with pytest.raises(DamagedFile):
        engine.load(0, tmp_path / "missing")
    with pytest.raises(StorageError, match="could not write"):
        engine.save(0, tmp_path / "no folder" / "row")


def test_forgetting_a_tail_and_computing_it_again(engine: LlamaEngine) -> None:
    logits_of(engine, 0, TEXT)
    expected = one_by_one(engine, 0, OTHER)
    engine.forget(0, len(TEXT))
    assert (one_by_one(engine, 0, OTHER) == expected).all()
    engine.forget(0, 10_000)  # beyond the end: nothing to drop
    engine.forget(0, 0)
    assert np.abs(logits_of(engine, 0, [*TEXT, *OTHER]) - expected).max() < 1e-4


def test_a_copied_row_goes_on_like_its_source_and_apart_from_it(engine: LlamaEngine) -> None:
    logits_of(engine, 2, OTHER)
    logits_of(engine, 0, TEXT)
    engine.copy(0, 2)
    copied, source = one_by_one(engine, 2, OTHER), one_by_one(engine, 0, OTHER)
    assert (copied == source).all()
    logits_of(engine, 2, [5])
    assert (logits_of(engine, 0, [9]) != logits_of(engine, 2, [9])).any()


def test_logits_are_a_view_of_the_engines_own_buffer(engine: LlamaEngine) -> None:
    first = engine.decode([SequenceInput(0, TEXT)])
    kept = first.copy()
    assert not first.flags.owndata
    engine.decode([SequenceInput(0, OTHER)])
    assert (first != kept).any()


def test_a_full_context_and_a_wrong_sequence_are_refused_before_anything_is_fed(engine: LlamaEngine) -> None:
    logits_of(engine, 0, LONG[:256])
    with pytest.raises(EngineError, match="the context of 256 ids is full; use a larger --ctx"):
        engine.decode([SequenceInput(1, [5]), SequenceInput(0, [5])])
    with pytest.raises(EngineError, match="sequence 3 of 3 with 1 ids"):
        engine.decode([SequenceInput(3, [5])])
    with pytest.raises(EngineError, match="sequence -1 of 3"):
        engine.decode([SequenceInput(-1, [5])])
    with pytest.raises(EngineError, match="sequence 1 of 3 with 0 ids"):
        engine.decode([SequenceInput(1, [])])
    with closing(opened()) as fresh:
        assert (logits_of(engine, 1, TEXT) == logits_of(fresh, 1, TEXT)).all()


def test_stop_ends_a_long_prompt_but_never_a_single_step() -> None:
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return True

    with closing(LlamaEngine(FILES["stage1"], EngineOptions(2048, 2, threads=1), stop)) as engine:
        with pytest.raises(Interrupted, match="stopped while reading the prompt"):
            engine.decode([SequenceInput(0, LONG)])
        assert asked
        asked.clear()
        engine.decode([SequenceInput(1, [5])])
        assert not asked


def test_closing_twice_is_allowed() -> None:
    engine = opened()
    engine.close()
    engine.close()


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose heads have 64 columns: quantised caches come in blocks of 32."""
    shape = LlamaConfig(256, 2, 4, 2, 64, 512, 41000, 16384, 1e-5, 10000.0, False)
    folder = tmp_path_factory.mktemp("wide")
    return write_synthetic(folder / "wide.gguf", "stage1", "F32", config=shape)


@pytest.mark.parametrize(
    ("options", "within"),
    [
        ({"flash_attention": True}, 0.02),
        ({"flash_attention": True, "kv_type": "q8_0"}, 0.1),
        ({"flash_attention": True, "kv_type": "q4_0"}, 1.0),
        ({"batch": 7}, 1e-4),
    ],
)
def test_other_caches_and_blocks_compute_nearly_the_same(
    wide: Path, options: dict[str, object], within: float
) -> None:
    found = []
    for settings in ({"kv_type": "f32"}, {"kv_type": "f32", **options}):
        with closing(LlamaEngine(wide, EngineOptions(256, 2, threads=1, **settings))) as engine:
            found.append(logits_of(engine, 1, TEXT))
            assert engine.busy > 0
    difference = np.abs(found[1] - found[0]).max() / found[0].std()
    assert difference < within
    assert difference > 0 or "batch" in options  # other arithmetic, not an ignored option


def test_quantised_caches_without_flash_attention_are_an_error_and_not_a_crash(wide: Path) -> None:
    with pytest.raises(EngineError, match=r"llama\.cpp could not open"):
        LlamaEngine(wide, EngineOptions(256, 2, threads=1, kv_type="q4_0"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_threads_do_not_spin_for_long_unless_the_user_wants_it(given: dict[str, str], expected: str) -> None:
    """Python's view and the C library's, which OpenMP reads, set before llama.cpp is loaded."""
    program = (
        "import sys, os, ctypes, yuegguf.lm; assert 'llama_cpp' not in sys.modules;"
        "get = ctypes.CDLL(None).getenv; get.restype = ctypes.c_char_p;"
        "seen = get(b'GOMP_SPINCOUNT'); print(seen.decode() if seen else None)"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    found = subprocess.run(
        [sys.executable, "-c", program], env=clean | given, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == expected


def test_a_context_opened_anew_holds_the_same_bits() -> None:
    with closing(opened(2, 256)) as engine, closing(opened(4, 1024)) as large:
        for each in (engine, large):
            each.decode([SequenceInput(0, TEXT), SequenceInput(1, OTHER)])
        engine.resize(4, 1024)
        assert (engine.n_rows, engine.n_ctx) == (4, 1024)
        step = [SequenceInput(0, [9]), SequenceInput(1, [11])]
        np.testing.assert_array_equal(engine.decode(step), large.decode(step))
        engine.decode([SequenceInput(3, LONG)])  # there is room for more, and longer ones
        engine.resize(2, 256)
        np.testing.assert_array_equal(engine.decode(step), large.decode(step))
        with pytest.raises(EngineError, match="there is no sequence 3"):
            engine.forget(3, 0)


def test_a_saved_row_is_read_by_a_context_with_other_sequences(engine: LlamaEngine, tmp_path: Path) -> None:
    logits_of(engine, 1, TEXT)
    engine.save(1, tmp_path / "row")
    expected = one_by_one(engine, 1, OTHER)
    for rows, seq in ((1, 0), (2, 1), (5, 4)):
        with closing(opened(rows)) as other:
            other.load(seq, tmp_path / "row")
            np.testing.assert_array_equal(one_by_one(other, seq, OTHER), expected)
            other.save(seq, tmp_path / "again")
            other.load(seq, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "row"]
    engine.load(2, tmp_path / "again")
    (tmp_path / "cut").write_bytes((tmp_path / "row").read_bytes()[:-8])
    with closing(opened(2)) as other, pytest.raises(DamagedFile, match="cut is not a cache of this model"):
        other.load(0, tmp_path / "cut")


def test_a_sequence_that_is_too_long_keeps_the_context(engine: LlamaEngine) -> None:
    logits_of(engine, 0, TEXT)
    with pytest.raises(EngineError, match="holds more than 32 ids"):
        engine.resize(3, 32)
    assert engine.n_ctx == 256
    one_by_one(engine, 0, OTHER)


def test_without_memory_for_a_larger_context_the_old_one_goes_on(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits_of(engine, 0, TEXT), logits_of(engine, 0, [9])
    engine.forget(0, 0)
    logits_of(engine, 0, TEXT)
    real = lib.llama_init_from_model

    def refuses(model: object, params: Any) -> object:
        return real(model, params) if params.n_seq_max <= 3 else None

    monkeypatch.setattr(lib, "llama_init_from_model", refuses)
    with pytest.raises(EngineError, match="could not open"):
        engine.resize(9, 4096)
    assert (engine.n_rows, engine.n_ctx) == (3, 256)
    np.testing.assert_array_equal(logits_of(engine, 0, [9]), expected[1])


def test_a_gap_between_sequences_changes_no_cache() -> None:
    with closing(opened(4, 256)) as engine, closing(opened(4, 256)) as other:
        for each in (engine, other):
            for seq in range(4):
                each.decode([SequenceInput(seq, TEXT[: 10 + seq])])
        gaps = engine.decode([SequenceInput(0, [5]), SequenceInput(3, [7])]).copy()
        assert np.abs(gaps[0] - other.decode([SequenceInput(0, [5])])[0]).max() < 1e-4
        assert np.abs(gaps[1] - other.decode([SequenceInput(3, [7])])[0]).max() < 1e-4
        step = [SequenceInput(seq, [9]) for seq in range(4)]
        assert np.abs(engine.decode(step) - other.decode(step)).max() < 1e-4
        full = [SequenceInput(1, [5] * (256 - 12))]
        engine.decode(full)  # a full sequence takes no id more, not even one that is dropped at once
        engine.decode([SequenceInput(0, [5]), SequenceInput(2, [7])])
