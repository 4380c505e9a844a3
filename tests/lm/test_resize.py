"""A failed change of the number of sequences, and batches at the edge of what a context takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_gguf import write_tiny

from yuegguf.errors import EngineError
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput

IDS = list(range(3, 43))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LlamaEngine]:
    with closing(LlamaEngine(write_tiny(tmp_path / "tiny.gguf"), EngineOptions(256, 3, threads=1))) as engine:
        yield engine


def logits_of(engine: LlamaEngine, seq: int, ids: list[int]) -> NDArray[np.float32]:
    return engine.decode([SequenceInput(seq, ids)])[0].copy()


def test_a_smaller_context_that_cannot_be_opened_leaves_all_sequences(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits_of(engine, 0, IDS)
    engine.copy(0, 2)
    expected = logits_of(engine, 2, [9])
    engine.forget(2, len(IDS))
    real = lib.llama_init_from_model

    def refuses(model: object, params: Any) -> object:
        return real(model, params) if params.n_seq_max == 3 else None

    monkeypatch.setattr(lib, "llama_init_from_model", refuses)
    with pytest.raises(EngineError, match="could not open"):
        engine.resize(1, 256)
    assert [engine.length(seq) for seq in range(3)] == [len(IDS), 0, len(IDS)]
    np.testing.assert_array_equal(logits_of(engine, 2, [9]), expected)


def test_a_cache_that_cannot_be_copied_leaves_all_sequences(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits_of(engine, 0, IDS)
    real, fails = lib.llama_state_seq_set_data, [True]
    monkeypatch.setattr(
        lib, "llama_state_seq_set_data", lambda *to: 0 if fails and fails.pop() else real(*to)
    )
    with pytest.raises(EngineError, match="could not copy a cache"):
        engine.resize(2, 512)
    assert (engine.n_rows, engine.n_ctx, engine.length(0)) == (3, 256, len(IDS))


def test_an_engine_that_cannot_get_its_context_back_is_closed(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits_of(engine, 0, IDS)
    monkeypatch.setattr(lib, "llama_init_from_model", lambda _model, _params: None)
    with pytest.raises(EngineError, match="could not open"):
        engine.resize(1, 256)
    with pytest.raises(EngineError, match="the model has been closed"):
        engine.length(0)


def test_a_gap_takes_no_id_beyond_the_batch(engine: LlamaEngine) -> None:
    many = [SequenceInput(0, [5] * (engine.n_batch - 1), 0), SequenceInput(2, [7])]
    assert engine.decode(many).shape[0] == 1
    assert [engine.length(seq) for seq in range(3)] == [engine.n_batch - 1, 0, 1]


def test_an_empty_batch_is_refused(engine: LlamaEngine) -> None:
    with pytest.raises(EngineError, match="a batch holds no sequence"):
        engine.decode([])
