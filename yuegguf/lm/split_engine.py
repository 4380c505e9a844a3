"""Several engines of one small model as one: each computes some of the sequences, on a thread of its own.

A model whose weights stay in a processor's caches gains nothing from reading them once for all sequences,
and its threads wait for each other after every matrix. So with `nano` two engines of one thread take half
the time of one engine of two threads (see benchmarks/README.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError
from yuegguf.lm.protocol import SequenceInput, TokenEngine

Logits = NDArray[np.float32]
STEP_IDS = 2
"""Most ids of a sequence in one step: one that was drafted, and the one behind it."""
T = TypeVar("T")


class PartEngine(TokenEngine, Protocol):
    """An engine that can be one of several."""

    def length(self, seq: int) -> int:
        """Ids in the sequence's cache."""
        ...

    def cache(self, seq: int) -> NDArray[np.uint8]:
        """A sequence's cache, which must not be empty."""
        ...

    def put_cache(self, seq: int, length: int, cache: NDArray[np.uint8]) -> None:
        """Replace a sequence's cache by one of another engine with the same model."""
        ...


def rows_of(n_rows: int, engines: int) -> list[int]:
    """Sequences of each engine, at least one: sequence s is number s // engines of engine s % engines."""
    return [max(1, -(-(n_rows - number) // engines)) for number in range(engines)]


def open_split(opened: Callable[[int], PartEngine], n_rows: int, engines: int, threads: int) -> SplitEngine:
    """Open engines of the numbers of sequences that `opened` takes. Raises what opening raises."""
    with ExitStack() as undo:
        parts = []
        for rows in rows_of(n_rows, engines):
            parts.append(opened(rows))
            undo.callback(parts[-1].close)
        split = SplitEngine(parts, n_rows, min(threads, engines))
        undo.pop_all()
    return split


class SplitEngine:
    """The sequences of all its engines; see TokenEngine for the methods."""

    def __init__(self, engines: Sequence[PartEngine], n_rows: int, threads: int) -> None:
        """`engines` hold `rows_of(n_rows, len(engines))` sequences; at most `threads` compute at once."""
        first = engines[0]
        self.pieces, self.metadata = first.pieces, first.metadata
        self.busy = 0.0
        self._engines = engines
        self._measure(n_rows)
        self._logits = np.empty((0, len(self.pieces)), np.float32)
        self._pool = ThreadPoolExecutor(threads - 1, "engine") if threads > 1 else None

    def _measure(self, n_rows: int) -> None:
        """Set what is known of the engines' size."""
        first = self._engines[0]
        self.n_rows, self.n_ctx = n_rows, first.n_ctx
        # a step is one batch, as in one engine: else it has other bits where a resumed song computes it again
        self.n_batch = max(first.n_batch, STEP_IDS * n_rows)

    def decode(self, inputs: Sequence[SequenceInput]) -> Logits:
        """Append ids to sequences → logits; see TokenEngine. An error leaves all sequences as they were."""
        begun = time.perf_counter()
        if not inputs:
            raise EngineError("a batch holds no sequence")
        parts: dict[int, list[SequenceInput]] = {}
        rows: dict[int, list[int]] = {}
        """Engine → rows of the result that its logits are."""
        total = 0
        for each in inputs:
            self._check(each.seq)
            seq, number = divmod(each.seq, len(self._engines))
            parts.setdefault(number, []).append(SequenceInput(seq, each.ids, each.n_logits))
            rows.setdefault(number, []).extend(range(total, total + each.n_logits))
            total += each.n_logits
        before = {number: self._lengths(number, part) for number, part in parts.items()}
        try:
            found = self._all({number: self._decoder(number, part) for number, part in parts.items()})
        except Exception:
            for number, part in parts.items():
                for each, length in zip(part, before[number], strict=True):
                    self._engines[number].forget(each.seq, length)
            raise
        logits = self._merged(total, rows, found)
        self.busy += time.perf_counter() - begun
        return logits

    def _lengths(self, number: int, part: list[SequenceInput]) -> list[int]:
        return [self._engines[number].length(each.seq) for each in part]

    def _decoder(self, number: int, part: list[SequenceInput]) -> Callable[[], Logits]:
        return lambda: self._engines[number].decode(part)

    def _all(self, calls: dict[int, Callable[[], T]]) -> dict[int, T]:
        """Results of all calls, made at the same time; raises the first error once all have ended."""
        (last, mine), others = list(calls.items())[-1], list(calls.items())[:-1]
        if self._pool is None:
            return {number: call() for number, call in calls.items()}
        futures: dict[int, Future[T]] = {number: self._pool.submit(call) for number, call in others}
        try:
            own = mine()
        finally:
            for future in futures.values():
                future.exception()  # waits
        return {**{number: future.result() for number, future in futures.items()}, last: own}

    def _merged(self, total: int, rows: dict[int, list[int]], found: dict[int, Logits]) -> Logits:
        """The logits of all engines in one array, which stays where it is."""
        if len(found) == 1:
            return next(iter(found.values()))
        if len(self._logits) < total:
            self._logits = np.empty((total, len(self.pieces)), np.float32)
        for number, part in found.items():
            self._logits[rows[number]] = part
        return self._logits[:total]

    def _check(self, *seqs: int) -> None:
        if wrong := [seq for seq in seqs if not 0 <= seq < self.n_rows]:
            raise EngineError(f"there is no sequence {wrong[0]} among {self.n_rows}")

    def _place(self, seq: int) -> tuple[PartEngine, int]:
        """The engine of a sequence, and its number there."""
        self._check(seq)
        return self._engines[seq % len(self._engines)], seq // len(self._engines)

    def forget(self, seq: int, keep: int) -> None:
        """Drop the sequence's cache after its first `keep` ids."""
        engine, own = self._place(seq)
        engine.forget(own, keep)

    def copy(self, src: int, dst: int) -> None:
        """Replace the cache of sequence `dst` by that of `src`."""
        (source, first), (target, second) = self._place(src), self._place(dst)
        if source is target:
            source.copy(first, second)
        elif length := source.length(first):
            target.put_cache(second, length, source.cache(first))
        else:
            target.forget(second, 0)

    def save(self, seq: int, path: Path) -> None:
        """Write the sequence's cache to `path`. Raises StorageError."""
        engine, own = self._place(seq)
        engine.save(own, path)

    def load(self, seq: int, path: Path) -> None:
        """Replace the sequence's cache by a saved one. Raises DamagedFile, StorageError."""
        engine, own = self._place(seq)
        engine.load(own, path)

    def resize(self, n_rows: int, n_ctx: int) -> None:
        """Change the number of sequences and their length. Raises EngineError; nothing is changed then.

        Where an engine cannot be changed back either, it is closed.
        """
        with ExitStack() as undo:
            for engine, rows in zip(self._engines, rows_of(n_rows, len(self._engines)), strict=True):
                undo.callback(_resizing_back(engine, rows))
                engine.resize(rows, n_ctx)
            undo.pop_all()
        for engine in self._engines[n_rows:]:  # their only sequence is none of these
            engine.forget(0, 0)
        self._measure(n_rows)

    def close(self) -> None:
        """Free the models, once no thread computes with them."""
        with ExitStack() as undo:
            for engine in self._engines:
                undo.callback(engine.close)
            if self._pool:
                self._pool.shutdown()


def _resizing_back(engine: PartEngine, n_rows: int) -> Callable[[], None]:
    """A function that gives an engine back its size, and the caches that it loses with `n_rows` sequences."""
    before = engine.n_rows, engine.n_ctx
    lost = [
        (seq, engine.length(seq), engine.cache(seq))
        for seq in range(n_rows, engine.n_rows)
        if engine.length(seq)
    ]

    def resize_back() -> None:
        engine.resize(*before)
        for state in lost:
            engine.put_cache(*state)

    return resize_back
