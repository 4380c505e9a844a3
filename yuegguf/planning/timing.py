"""Speed of this machine: a few steps of a loaded engine are timed, and the result is cached."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import platformdirs

from yuegguf.codec.protocol import CODEBOOKS, AudioCodec
from yuegguf.errors import DamagedFile, RequestError, StorageError
from yuegguf.files import typed_json
from yuegguf.files.atomic import replacing
from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.models.registry import user_folder
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import LoadSpec, StepCost
from yuegguf.planning.plan import Plan
from yuegguf.stages.lookahead import confidence_for
from yuegguf.stages.render import TRACKS

T = TypeVar("T")
CACHE_VARIABLE = "YUEGGUF_CACHE_DIR"
"""Environment variable that names the folder of the cache."""
NEAR, FAR, FARTHEST = 16, 272, 2048
"""Lengths of the KV caches, in ids, at which steps are timed: the difference is the cost of a longer cache.
A fast machine decodes a longer prompt, up to FARTHEST."""
MIN_REPEATS, MAX_REPEATS = 3, 50
"""Minimum and maximum number of timed repetitions."""
RENDER_FRAMES = 100
BANDWIDTH_BYTES = 1 << 29
"""Bytes of the array that is summed, far more than any cache."""


def measure(engine: TokenEngine, seconds: float = 4.0, far: int | None = None) -> StepCost:
    """Time steps of the engine with short KV caches and with `far` ids in each, for about `seconds` in all.

    Without `far`, the longer caches are as long as a prompt that is decoded in about those seconds. A large
    `far` may take more. The sequences are empty afterwards. Raises EngineError.
    """
    rows, first = engine.n_rows, min(far or FAR, engine.n_ctx - 1)
    near = min(NEAR, first // 2)
    ids = np.random.default_rng(0).integers(3, len(engine.pieces), max(FARTHEST, first)).tolist()
    for row in range(rows):
        engine.forget(row, 0)
    engine.decode([SequenceInput(0, ids[:near])])
    _spread(engine)
    alone = _step(engine, 1, near, seconds / 4)
    together = _step(engine, rows, near, seconds / 4) if rows > 1 else alone
    begun = time.perf_counter()
    engine.decode([SequenceInput(0, ids[near:first])])
    prompt = (time.perf_counter() - begun) / (first - near)
    far = first if far else max(first, min(FARTHEST, engine.n_ctx - 1, first + int(seconds / prompt)))
    if far > first:
        engine.decode([SequenceInput(0, ids[first:far])])
    _spread(engine)
    late = _step(engine, rows, far, seconds / 2)
    for row in range(rows):
        engine.forget(row, 0)
    cell = max(0.0, (late - together) / (rows * (far - near)))
    each = max(0.0, (together - alone) / (rows - 1) - cell * near) if rows > 1 else 0.0
    return StepCost(max(0.0, alone - each - cell * near), each, cell, prompt)


def draft_price(engine: TokenEngine, seconds: float = 3.0) -> float:
    """Part by which a step of two sequences takes longer with a drafted code in each, timed in turns.

    The sequences are empty afterwards. Raises EngineError.
    """
    length = min(NEAR, engine.n_ctx - 2)
    for row in range(engine.n_rows):
        engine.forget(row, 0)
    engine.decode([SequenceInput(0, list(range(3, 3 + length)))])
    _spread(engine)
    plain, drafted = ([SequenceInput(row, [5] * ids, ids) for row in range(2)] for ids in (1, 2))
    ratios, begun = list[float](), time.perf_counter()
    while len(ratios) <= MIN_REPEATS or time.perf_counter() - begun < seconds:
        ratios.append(_seconds(engine, drafted, length) / _seconds(engine, plain, length))
    for row in range(engine.n_rows):
        engine.forget(row, 0)
    return statistics.median(ratios[1:]) - 1


def _seconds(engine: TokenEngine, batch: list[SequenceInput], length: int) -> float:
    """Seconds of a step; its ids are dropped again."""
    begun = time.perf_counter()
    engine.decode(batch)
    passed = time.perf_counter() - begun
    for each in batch:
        engine.forget(each.seq, length)
    return passed


def _spread(engine: TokenEngine) -> None:
    for row in range(1, engine.n_rows):
        engine.copy(0, row)


def _step(engine: TokenEngine, rows: int, length: int, seconds: float) -> float:
    """Median seconds of a step of the first `rows` sequences with `length` ids in each."""
    batch = [SequenceInput(row, [5]) for row in range(rows)]

    def once() -> None:
        engine.decode(batch)
        for row in range(rows):
            engine.forget(row, length)

    once()
    return _median(once, seconds)


def _median(once: Callable[[], None], seconds: float) -> float:
    durations: list[float] = []
    begun = time.perf_counter()
    while len(durations) < MIN_REPEATS or (
        len(durations) < MAX_REPEATS and time.perf_counter() - begun < seconds
    ):
        start = time.perf_counter()
        once()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def measure_codec(codec: AudioCodec) -> float:
    """Seconds of decoding and upsampling one frame of both tracks."""
    codes = np.random.default_rng(0).integers(0, 1024, (CODEBOOKS, RENDER_FRAMES)).astype(np.int16)

    def once() -> None:
        for track in TRACKS:
            codec.decode(codes)
            codec.upsample(codes, track)

    once()
    return _median(once, 0.0) / RENDER_FRAMES


def bandwidth(threads: int, size: int = BANDWIDTH_BYTES) -> float:
    """Memory bandwidth of `threads` threads, bytes a second: the best of a few sums over `size` bytes."""
    parts = np.array_split(np.ones(size // 4, np.float32), threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            begun = time.perf_counter()
            list(pool.map(lambda part: float(np.dot(part, part)), parts))
            best = max(best, size / (time.perf_counter() - begun))
    return best


class MeasurementCache(Generic[T]):
    """Measurements on disk, by a hash of the machine's and the model's facts."""

    def __init__(self, path: Path | None, kind: type[T]) -> None:
        """`path` is the file; without one nothing is remembered."""
        self.path, self._kind = path, kind

    def find(self, *facts: object) -> T | None:
        """The measurement made earlier with these facts, or None."""
        return self._read().get(_key(facts))

    def keep(self, measurement: T, *facts: object) -> None:
        """Store a measurement; an unwritable folder is ignored."""
        if self.path is None:
            return
        with suppress(OSError, StorageError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as beside:
                stored = {**self._read(), _key(facts): measurement}
                beside.write_bytes(typed_json.encode_with_checksum(stored))

    def _read(self) -> dict[str, T]:
        """All measurements by key; empty if the file is unreadable, since they are then made again."""
        if self.path is None:
            return {}
        try:
            return typed_json.read_file(self.path, dict[str, self._kind], "")  # type: ignore[name-defined]
        except (OSError, DamagedFile):
            return {}


class TimingCache(MeasurementCache[StepCost]):
    """Measured step costs on disk."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path or cache_file("speed.json"), StepCost)


def timing_facts(plan: Plan, load: LoadSpec, key: str) -> tuple[object, ...]:
    """All that the time of a step depends on, for a TimingCache; `key` names the model."""
    from yuegguf.lm.build import build_info

    return key, replace(load, ids=0), hardware.cpu_name(), plan.threads, build_info(), plan.device


def calibrated(plan: Plan, options: ComputeOptions, key: str, cache: TimingCache) -> Plan:
    """The plan with the confidence requested, else that which pays at the price of a draft, if it was timed.

    `key` names the model.
    """
    if options.draft_confidence is not None:
        return plan
    cost = cache.find(*timing_facts(plan, plan.stage1(), key))
    return replace(plan, draft_confidence=confidence_for(cost.draft if cost else None))


def _key(facts: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def cache_file(name: str) -> Path | None:
    """A file of the cache; None without a home folder. Raises RequestError for a wrong YUEGGUF_CACHE_DIR."""
    try:
        return cache_dir() / name
    except RequestError:
        if os.environ.get(CACHE_VARIABLE):
            raise
        return None


def cache_dir() -> Path:
    """Folder of the cache: $YUEGGUF_CACHE_DIR, else the user's. Raises RequestError without a home folder."""
    usual = partial(platformdirs.user_cache_path, "yuegguf", appauthor=False)
    return user_folder(CACHE_VARIABLE, usual)
