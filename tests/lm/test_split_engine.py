"""Several engines as one: the logits of each sequence, caches that move between engines, errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cheap import HashEngine

from yuegguf.errors import EngineError, Interrupted
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput, in_blocks
from yuegguf.lm.split_engine import SplitEngine, open_split, rows_of
from yuegguf.models.resolve import nano_models

MODEL = nano_models().stage2
IDS = [int(i) for i in np.random.default_rng(0).integers(259, 8000, 60)]
ROWS, N_CTX = 5, 64


def split_hashes(engines: int = 3, threads: int = 3) -> SplitEngine:
    def opened(rows: int) -> HashEngine:
        return HashEngine(MODEL, EngineOptions(N_CTX, rows, 1))

    return open_split(opened, ROWS, engines, threads)


@pytest.fixture(params=[(1, 1), (2, 2), (3, 3), (5, 2), (7, 1)])
def split(request: pytest.FixtureRequest) -> Iterator[SplitEngine]:
    with closing(split_hashes(*request.param)) as engine:
        yield engine


@pytest.fixture
def alone() -> Iterator[HashEngine]:
    """One engine with all sequences."""
    with closing(HashEngine(MODEL, EngineOptions(N_CTX, ROWS, 1))) as engine:
        yield engine


def test_every_sequence_has_a_place_of_its_own() -> None:
    for n_rows in range(1, 20):
        for engines in range(1, 9):
            sizes = rows_of(n_rows, engines)
            assert len(sizes) == engines
            assert min(sizes) >= 1
            assert max(sizes) - min(sizes) <= 1
            assert all(seq // engines < sizes[seq % engines] for seq in range(n_rows))
            assert n_rows < engines or sum(sizes) == n_rows


def test_all_logits_are_those_of_one_engine_in_the_order_of_the_inputs(
    split: SplitEngine, alone: HashEngine
) -> None:
    batches = [
        [SequenceInput(seq, IDS[seq : seq + 9], 1) for seq in range(ROWS)],
        [SequenceInput(seq, [7, seq + 9], n) for seq, n in ((4, 2), (0, 0), (3, 1), (1, 2))],
        [SequenceInput(2, [11], 1)],
        [SequenceInput(1, [12], 0), SequenceInput(4, [13], 0)],
    ]
    for batch in batches:
        before = split.busy
        assert np.array_equal(split.decode(batch), alone.decode(batch))
        assert split.busy > before


def test_caches_are_copied_forgotten_saved_and_loaded_by_their_sequence(
    split: SplitEngine, alone: HashEngine, tmp_path: Path
) -> None:
    for engine in (split, alone):
        engine.decode([SequenceInput(seq, IDS[: 3 + seq]) for seq in range(4)])
        engine.copy(2, 4)
        engine.copy(3, 0)
        engine.forget(3, 2)
        engine.save(1, tmp_path / "cache")
        engine.load(2, tmp_path / "cache")
        engine.forget(1, 0)
        engine.copy(1, 3)  # an empty one
    batch = [SequenceInput(seq, [5]) for seq in range(ROWS)]
    assert np.array_equal(split.decode(batch), alone.decode(batch))


def test_another_number_of_sequences_keeps_what_the_first_of_them_hold(
    split: SplitEngine, alone: HashEngine
) -> None:
    for n_rows, n_ctx in ((8, 80), (2, 70), (6, 90)):
        for engine in (split, alone):
            engine.decode([SequenceInput(seq, IDS[: seq + 1]) for seq in range(engine.n_rows)])
            engine.resize(n_rows, n_ctx)
            assert (engine.n_rows, engine.n_ctx) == (n_rows, n_ctx)
        batch = [SequenceInput(seq, [5]) for seq in range(n_rows)]
        assert np.array_equal(split.decode(batch), alone.decode(batch))


@pytest.mark.parametrize("batch", [1, 3, 4, 64])
def test_the_same_inputs_are_one_batch_as_in_one_engine(batch: int) -> None:
    """A step that is computed again without its logits would else have other bits."""
    options = EngineOptions(N_CTX, 2, 1, batch=batch)

    def opened(rows: int) -> LlamaEngine:
        return LlamaEngine(MODEL, replace(options, n_rows=rows))

    with closing(open_split(opened, 2, 2, 1)) as split, closing(opened(2)) as one:
        for n_rows in (2, 5, 3):
            assert (split.n_rows, split.n_batch) == (one.n_rows, one.n_batch)
            step = [SequenceInput(seq, IDS[:2], n_logits=0) for seq in range(split.n_rows)]
            assert in_blocks(step, split.n_batch) == [step]
            for engine in (split, one):
                engine.resize(n_rows, N_CTX)


def test_where_one_engine_cannot_be_resized_none_is() -> None:
    with closing(split_hashes()) as split:
        split.decode([SequenceInput(1, IDS[:40])])
        with pytest.raises(EngineError, match="longer"):
            split.resize(ROWS, 20)
        assert (split.n_rows, split.n_ctx) == (ROWS, N_CTX)
        split.decode([SequenceInput(0, IDS[:60])])


def test_sequences_that_a_failed_resize_had_dropped_come_back(alone: HashEngine) -> None:
    with closing(split_hashes()) as split:
        for engine in (split, alone):
            engine.decode([SequenceInput(seq, IDS[: seq + 1]) for seq in range(ROWS - 1)])
            engine.decode([SequenceInput(ROWS - 1, IDS[:40])])

        def refuse(n_rows: int, n_ctx: int) -> None:
            if n_rows < split._engines[1].n_rows:
                raise EngineError("no room")

        split._engines[1].resize = refuse  # type: ignore[method-assign]
        with pytest.raises(EngineError, match="no room"):
            split.resize(2, N_CTX)
        batch = [SequenceInput(seq, [5]) for seq in range(ROWS)]
        assert np.array_equal(split.decode(batch), alone.decode(batch))


def test_an_empty_batch_is_refused(split: SplitEngine) -> None:
    with pytest.raises(EngineError, match="a batch holds no sequence"):
        split.decode([])


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_one_engine_leaves_all_sequences_as_they_were(threads: int) -> None:
    with closing(split_hashes(3, threads)) as split, closing(split_hashes(3, threads)) as untouched:
        for engine in (split, untouched):
            engine.decode([SequenceInput(0, IDS[:5]), SequenceInput(1, IDS[:60]), SequenceInput(2, IDS[:6])])
        with pytest.raises(EngineError, match="the context of 64 ids is full"):
            split.decode([SequenceInput(seq, IDS[:9]) for seq in range(3)])
        batch = [SequenceInput(seq, [5]) for seq in range(3)]
        assert np.array_equal(split.decode(batch), untouched.decode(batch))


@pytest.mark.parametrize("seq", [-1, ROWS, ROWS + 1])
def test_sequences_that_are_not_there_are_refused(split: SplitEngine, seq: int) -> None:
    with pytest.raises(EngineError, match=f"there is no sequence {seq} among {ROWS}"):
        split.decode([SequenceInput(seq, [5])])
    with pytest.raises(EngineError, match=f"there is no sequence {seq} among {ROWS}"):
        split.forget(seq, 0)


class Waiting(HashEngine):
    """Computes once all engines have begun."""

    all_begun = threading.Barrier(3, timeout=60)

    def decode(self, inputs: Sequence[SequenceInput]) -> np.ndarray:  # type: ignore[type-arg]
        self.all_begun.wait()
        return super().decode(inputs)


def test_engines_compute_at_the_same_time() -> None:
    with closing(open_split(lambda n: Waiting(MODEL, EngineOptions(N_CTX, n, 1)), ROWS, 3, 3)) as split:
        assert split.decode([SequenceInput(seq, [5]) for seq in range(ROWS)]).shape[0] == ROWS


def test_a_stop_in_one_engine_ends_the_step_once_the_others_are_done() -> None:
    ended: list[int] = []

    class Noting(HashEngine):
        def decode(self, inputs: Sequence[SequenceInput]) -> np.ndarray:  # type: ignore[type-arg]
            try:
                return super().decode(inputs)
            finally:
                ended.append(len(inputs[0].ids))

    def opened(rows: int) -> HashEngine:
        return Noting(MODEL, EngineOptions(N_CTX, rows, 1), lambda: True)

    with closing(open_split(opened, ROWS, 3, 3)) as split:
        with pytest.raises(Interrupted):
            split.decode([SequenceInput(0, [5]), SequenceInput(1, IDS[:20]), SequenceInput(2, [6])])
        assert sorted(ended) == [1, 1, 20]


def test_an_error_waits_for_the_engines_that_still_compute() -> None:
    """What they hold could not be dropped, nor their models be freed, before."""
    failed, ended = threading.Event(), threading.Event()

    class Slow(HashEngine):
        def decode(self, inputs: Sequence[SequenceInput]) -> np.ndarray:  # type: ignore[type-arg]
            if len(inputs[0].ids) > 1:
                failed.set()
                raise EngineError("no memory")
            assert failed.wait(60)
            assert not ended.wait(0.2)  # time in which the error would be raised
            ended.set()
            return super().decode(inputs)

    with closing(open_split(lambda n: Slow(MODEL, EngineOptions(N_CTX, n, 1)), 2, 2, 2)) as split:
        with pytest.raises(EngineError, match="no memory"):
            split.decode([SequenceInput(0, [5]), SequenceInput(1, IDS[:9])])
        assert ended.is_set()


def test_engines_that_were_opened_are_closed_where_the_next_cannot_be() -> None:
    closed: list[int] = []

    class Closing(HashEngine):
        def close(self) -> None:
            closed.append(self.n_rows)

    def opened(rows: int) -> HashEngine:
        if rows == 1:
            raise EngineError("no memory")
        return Closing(MODEL, EngineOptions(N_CTX, rows, 1))

    with pytest.raises(EngineError, match="no memory"):
        open_split(opened, ROWS, 3, 3)
    assert closed == [2, 2]


@pytest.mark.engine
def test_real_engines_give_the_bits_that_each_gives_by_itself(tmp_path: Path) -> None:
    options = EngineOptions(256, 2, 1, outputs=1)
    with (
        closing(open_split(lambda n: LlamaEngine(MODEL, options), 4, 2, 2)) as split,
        closing(LlamaEngine(MODEL, options)) as even,
        closing(LlamaEngine(MODEL, options)) as odd,
    ):
        prompts = [SequenceInput(seq, IDS[seq : seq + 20 + seq], 1) for seq in range(4)]
        found = split.decode(prompts).copy()
        for number, engine in enumerate((even, odd)):
            own = [SequenceInput(each.seq // 2, each.ids, 1) for each in prompts[number::2]]
            assert np.array_equal(found[number::2], engine.decode(own))
        split.copy(0, 3)  # from one engine to the other
        split.save(0, tmp_path / "cache")
        odd.load(1, tmp_path / "cache")
        step = split.decode([SequenceInput(1, [300]), SequenceInput(3, [301])])
        assert np.array_equal(step, odd.decode([SequenceInput(0, [300]), SequenceInput(1, [301])]))
