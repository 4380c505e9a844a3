"""Benchmark of the stages: time of steps and songs, and share of the memory's bandwidth."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yuegguf.codec.protocol import FRAME_RATE, AudioCodec
from yuegguf.lm import header
from yuegguf.lm.header import ModelFacts
from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.vocab import stage1_vocab, stage2_vocab
from yuegguf.models.resolve import Models
from yuegguf.pipeline import engines, preflight
from yuegguf.planning import hardware, timing
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import KV_BYTES, StepCost, draft_seconds, refine_seconds
from yuegguf.planning.plan import Plan, make_plan
from yuegguf.progress import Event
from yuegguf.request.prepared import PreparedSong, prepare
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest
from yuegguf.song.token_log import TokenLog
from yuegguf.stages import stage1, stage2
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.stage1_task import Stage1Task

FIRST_PROMPT_IDS = 460
"""Ids of the official example's first prompt."""
SECTION_SECONDS = 30.0
LATER_PROMPT_IDS = 90
"""Ids of a later section's prompt."""
HEADER_IDS = FIRST_PROMPT_IDS - LATER_PROMPT_IDS
"""Ids before the first section's own prompt."""


@dataclass(frozen=True)
class StageReport:
    """Measurements of one stage."""

    stage: str
    file: str
    bytes: int
    rows: int
    near_ms: float
    """Milliseconds of a step with a nearly empty KV cache."""
    far: int
    """Ids in each sequence at the late step."""
    far_ms: float
    prompt_per_second: float
    """Ids of a prompt per second."""
    bandwidth_share: float | None
    """Bytes that the late step reads, over the memory's bandwidth in its time; None with layers on a GPU,
    which has its own memory."""
    overhead: float
    """Time of our loop besides llama.cpp, as a share of llama.cpp's."""
    song_seconds: float
    """Estimated seconds for the benchmark's song."""
    real_time: float
    """`song_seconds` over the song's length."""
    peak_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Bench:
    """Models, options and sizes of a benchmark."""

    models: Models
    options: ComputeOptions
    song: float = 60.0
    """Seconds of the song to estimate, in sections of 30."""
    seconds: float = 10.0
    """Approximate seconds of measuring a stage, plus a long prompt for the late step."""
    far: int = 2048
    """Ids in a sequence at the late step."""

    def song_to_plan(self) -> PreparedSong:
        """A song of that length."""
        count = max(1, round(self.song / SECTION_SECONDS))
        lyrics = "[verse]\nla la la\n\n" * count
        return prepare(SongRequest("pop", lyrics, segment_seconds=max(1.0, self.song / count)))


def run_bench(bench: Bench, stages: tuple[str, ...], report_stage: Callable[[str], None]) -> dict[str, Any]:
    """Measure "stage1", "stage2" and "render" → a JSON object. Raises YueError."""
    from yuegguf.lm.build import build_info
    from yuegguf.lm.loading import LIBRARIES

    headers, song = preflight.read_models(bench.models), bench.song_to_plan()
    plan = make_plan(song, headers.facts, bench.options, engines.find_devices(bench.options))
    parts = engines.engine_factory(bench.models, plan, bench.options, threading.Event())
    report_stage("measuring the memory's bandwidth")
    bytes_per_second = timing.bandwidth(plan.threads)
    reports: list[StageReport] = []
    measured = _StageBench(bench, plan, song, bytes_per_second)
    if "stage1" in stages:
        report_stage("stage 1")
        reports.append(measured.stage1(lambda: parts.stage1(plan.stage1_rows, plan.n_ctx), headers.stage1))
    if "stage2" in stages:
        report_stage("stage 2")
        reports.append(measured.stage2(lambda: parts.stage2(plan.stage2_rows), headers.stage2))
    report: dict[str, Any] = {
        "cpu": hardware.cpu_name(),
        "threads": plan.threads,
        "bandwidth": bytes_per_second,
        "llama_cpp": {**build_info(), "folder": str(LIBRARIES.parent)},
        "song": song.frames / FRAME_RATE,
        "plan": asdict(plan),
        "stages": [each.to_json() for each in reports],
    }
    if "render" in stages:
        report_stage("codec and upsamplers")
        report["render"] = _render(parts.codec, report["song"])
    return report


@dataclass(frozen=True)
class _StageBench:
    bench: Bench
    plan: Plan
    song: PreparedSong
    bandwidth: float

    def stage1(self, opened: Callable[[], TokenEngine], header: header.ModelHeader) -> StageReport:
        caps = self.song.caps
        prompts, ctx = [FIRST_PROMPT_IDS, *[LATER_PROMPT_IDS] * (len(caps) - 1)], self.plan.n_ctx
        return self._report(
            "stage1",
            opened,
            header,
            _sample_stage1,
            lambda cost: draft_seconds(cost, prompts, caps, guided=True, n_ctx=ctx, header=HEADER_IDS),
        )

    def stage2(self, opened: Callable[[], TokenEngine], header: header.ModelHeader) -> StageReport:
        frames = self.song.frames
        lengths = sorted((chunk.frames for chunk in stage2.chunk_grid(frames)), reverse=True)
        rows = self.plan.stage2_rows
        return self._report(
            "stage2", opened, header, _refine_stage2, lambda cost: refine_seconds(cost, lengths, rows)
        )

    def _report(
        self,
        stage: str,
        opened: Callable[[], TokenEngine],
        header: header.ModelHeader,
        loop: Callable[[TokenEngine, float], float],
        whole: Callable[[StepCost], float],
    ) -> StageReport:
        hardware.forget_peak()
        with closing(opened()) as engine:
            overhead = loop(engine, self.bench.seconds / 2)
            far = min(self.bench.far, engine.n_ctx - 1)
            cost = timing.measure(engine, self.bench.seconds / 2, far)
            rows = engine.n_rows
        late = cost.seconds(rows, rows * far)
        moved = _bytes_read(header.facts, rows * far, self.plan.kv_type)
        on_gpu = getattr(self.plan, f"{stage}_gpu_layers") != 0
        return StageReport(
            stage=stage,
            file=header.path.name,
            bytes=header.facts.bytes,
            rows=rows,
            near_ms=1e3 * cost.seconds(rows, 0),
            far=far,
            far_ms=1e3 * late,
            prompt_per_second=1 / cost.prompt,
            bandwidth_share=None if on_gpu else moved / late / self.bandwidth,
            overhead=overhead,
            song_seconds=whole(cost),
            real_time=whole(cost) * FRAME_RATE / self.song.frames,
            peak_bytes=hardware.peak_memory(),
        )


def _bytes_read(facts: ModelFacts, cells: int, kv_type: str) -> float:
    """Bytes that a step reads: all weights once, and every cell of the KV cache."""
    return facts.bytes + cells * facts.kv_width * KV_BYTES[kv_type]


class _LoopDone(Exception):
    """Raised to end a loop that was timed long enough."""


class _LoopTimer:
    """Progress callback that compares a loop's time with the engine's, from its first event on."""

    def __init__(self, engine: TokenEngine, seconds: float) -> None:
        self.engine, self.seconds = engine, seconds
        self.begun: tuple[float, float] | None = None
        self.overhead = 0.0

    def __call__(self, event: Event) -> None:
        now, busy = time.perf_counter(), self.engine.busy
        if self.begun is None:
            self.begun = now, busy
            return
        passed, used = now - self.begun[0], busy - self.begun[1]
        self.overhead = passed / used - 1 if used > 0 else 0.0
        if passed > self.seconds:
            raise _LoopDone


def _time_loop(engine: TokenEngine, seconds: float, loop: Callable[[_LoopTimer], object]) -> _LoopTimer:
    """Run a loop for some seconds, then empty the rows."""
    watch = _LoopTimer(engine, seconds)
    with suppress(_LoopDone):
        loop(watch)
    for row in range(engine.n_rows):
        engine.forget(row, 0)
    return watch


def _sample_stage1(engine: TokenEngine, seconds: float) -> float:
    """Draw ids as for a song; returns the loop's overhead."""
    vocab = stage1_vocab(engine.pieces)
    ids = np.random.default_rng(1).integers(3, vocab.soa, min(FIRST_PROMPT_IDS, engine.n_ctx // 4)).tolist()
    prompt = Prompt([], [[*ids, vocab.soa, vocab.xcodec]], [])
    frames = (engine.n_ctx - len(ids) - 8) // 2
    sampling = Sampling(min_new_tokens=2 * frames)
    draft = Stage1Task(prompt, [frames], sampling, 1)
    with tempfile.TemporaryDirectory() as folder, closing(TokenLog.open(Path(folder) / "log")) as log:
        watch = _time_loop(
            engine, seconds, lambda watch: stage1.generate_codes(draft, engine, vocab, log, progress=watch)
        )
    return watch.overhead


def _refine_stage2(engine: TokenEngine, seconds: float) -> float:
    """Refine random codes on all rows; returns the loop's overhead."""
    vocab = stage2_vocab(engine.pieces)
    frames = stage2.CHUNK_FRAMES * -(-engine.n_rows // 2)
    codes = np.random.default_rng(1).integers(0, 1024, (2, frames)).astype(np.int16)
    return _time_loop(
        engine, seconds, lambda watch: stage2.refine_codes(codes, engine, vocab, progress=watch)
    ).overhead


def _render(opened: Callable[[], AudioCodec], song: float) -> dict[str, Any]:
    hardware.forget_peak()
    with closing(opened()) as codec:
        frame = timing.measure_codec(codec)
    return {
        "song_seconds": frame * FRAME_RATE * song,
        "real_time": frame * FRAME_RATE,
        "peak_bytes": hardware.peak_memory(),
    }
