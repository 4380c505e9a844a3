"""Estimate of a song on this machine before it starts: plan, reasons, memory and time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.lm.gguf_parts import model_fingerprint
from yuegguf.lm.protocol import TokenEngine
from yuegguf.measure.machine_load import MachineLoad, machine_load
from yuegguf.pipeline import engines, preflight
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions, Devices
from yuegguf.planning.cost import KV_BYTES, LoadSpec, StepCost, draft_seconds, refine_seconds, sampled_ids
from yuegguf.planning.plan import Plan, chunk_frames, context_for, file_bytes, make_plan, most_rows, uses_gpu
from yuegguf.planning.timing import (
    TimingCache,
    calibrated,
    draft_price,
    measure,
    measure_codec,
    timing_facts,
)
from yuegguf.request.fit import section_fit
from yuegguf.request.prepared import PreparedSong
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.stage2 import best_rows, chunk_grid


@dataclass(frozen=True)
class Forecast:
    """Upper bounds for a song: sections may end before their limit."""

    plan: Plan
    reasons: tuple[str, ...]
    """A sentence per decision."""
    memory: dict[str, int]
    """Bytes by phase."""
    seconds: dict[str, float]
    """Seconds by phase."""
    music: float
    """Seconds of the song if every section runs to its limit."""
    likely_music: float
    """Seconds of the song if its sections end as those of real songs did."""
    disk: int
    """Bytes on disk: stage 1's snapshots or the files at the end, whichever are more."""
    load: MachineLoad
    """Slowdown of the machine now, which `seconds` leave out."""

    @property
    def total(self) -> tuple[float, float]:
        """Seconds that the song is likely to take at least, on an idle machine, and at most, as it is now."""
        whole = sum(self.seconds.values())
        return whole * self.likely_music / self.music, whole * self.load.factor

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "plan": asdict(self.plan),
            "reasons": list(self.reasons),
            "memory": self.memory,
            "seconds": {phase: round(value, 1) for phase, value in self.seconds.items()},
            "music": self.music,
            "likely_music": round(self.likely_music, 1),
            "disk": self.disk,
            "slowdown": round(self.load.factor, 2),
            "total": [round(value, 1) for value in self.total],
        }


def forecast(job: SongJob, cache: TimingCache | None = None) -> Forecast:
    """Plan a song and estimate its memory, time and disk; writes nothing but the timing cache.

    Several takes mean all drafts, which share their steps, then one refined song; disk for all. With a
    preview, stage 1's memory includes the codec's decoder.
    Steps without a cached timing are timed now, which loads each model for some seconds.
    Raises YueError, NotEnoughMemory among them.
    """
    job = replace(job, song=preflight.located(job.song))
    song, options, takes = job.song, job.compute, job.takes
    headers = preflight.read_models(job.models, bool(job.preview.preview_seconds))
    devices = engines.find_devices(options)
    plan = make_plan(song, headers.facts, options, devices, takes)
    prompt = preflight.check_prompt(song, headers.stage1, plan.n_ctx)
    first, second = headers.stage1.facts, headers.stage2.facts
    memory = {
        "draft": _stage1_load(plan, takes).own_bytes(first, devices.shared_memory),
        "refine": plan.stage2().own_bytes(second, devices.shared_memory),
    }
    cache = cache or TimingCache()
    seconds = _phase_seconds(job, prompt, plan, cache)
    plan = calibrated(plan, options, job.models.stage1_key, cache)
    cells = _snapshot_ids(song, _prompt_ids(prompt), plan, seconds["draft"], options.snapshot_seconds)
    snapshots = round(cells * first.kv_width * KV_BYTES[plan.kv_type])
    disk = takes * max(snapshots, file_bytes(song))
    reasons = tuple(plan_reasons(plan, song, options, devices))
    music, load = song.frames / FRAME_RATE, machine_load(plan.threads)
    return Forecast(plan, reasons, memory, seconds, music, likely_music(song), disk, load)


def likely_music(song: PreparedSong) -> float:
    """Seconds that a song is likely to have; a recording as guide sets them."""
    request = song.request
    if request.track is not None and request.track.frames is not None:
        return song.frames / FRAME_RATE
    fits = [section_fit(section, request.segment_seconds, request.genre) for section in song.sections]
    return sum(fit.likely_seconds for fit in fits)


def _stage1_load(plan: Plan, takes: int) -> LoadSpec:
    """Load options of stage 1 for all takes."""
    load = plan.stage1()
    return replace(load, rows=takes * load.rows)


def _prompt_ids(prompt: Prompt) -> list[int]:
    """Ids of each section's own prompt, the header with the first."""
    before = [prompt.header, *[prompt.end_of_segment] * (len(prompt.sections) - 1)]
    return [len(first) + len(ids) for first, ids in zip(before, prompt.sections, strict=True)]


def _snapshot_ids(song: PreparedSong, prompts: list[int], plan: Plan, draft: float, every: float) -> int:
    """Ids in the snapshots of a draft of that many seconds: the last two, as a new one is whole before the
    old one goes."""
    last = int(draft / every) if every else 0
    times = [count * every for count in range(max(1, last - 1), last + 1)]
    caps, guided = song.caps, song.request.sampling.guided
    most = plan.stage1_rows * plan.n_ctx
    return sum(min(most, sampled_ids(prompts, caps, guided, time / draft)) for time in times)


def _phase_seconds(job: SongJob, prompt: Prompt, plan: Plan, cache: TimingCache) -> dict[str, float]:
    song, models, takes = job.song, job.models, job.takes
    parts = engines.engine_factory(models, plan, ComputeOptions(), threading.Event())
    rows, caps = plan.stage2_rows, song.caps
    load = _stage1_load(plan, takes)
    draft = _step_cost(cache, plan, load, models.stage1_key, lambda: parts.stage1(load.rows, load.ids))
    second = model_fingerprint(models.stage2)
    refine = _step_cost(cache, plan, plan.stage2(), second, lambda: parts.stage2(rows))
    with closing(parts.codec()) as codec:
        frame = measure_codec(codec)
    lengths = sorted((chunk.frames for chunk in chunk_grid(sum(caps))), reverse=True)
    header, guided = len(prompt.header), song.request.sampling.guided
    return {
        "draft": draft_seconds(
            draft,
            _prompt_ids(prompt),
            caps,
            guided=guided,
            n_ctx=plan.n_ctx,
            header=header,
            takes=takes,
        ),
        "refine": refine_seconds(refine, lengths, rows),
        "master": frame * sum(caps),
    }


def _step_cost(
    cache: TimingCache, plan: Plan, load: LoadSpec, key: str, opened: Callable[[], TokenEngine]
) -> StepCost:
    """Cached cost of a step with this model and load, or measured now."""
    facts, drafts = timing_facts(plan, load, key), load == plan.stage1() and load.rows == 2
    cost = cache.find(*facts)
    if cost is None or (drafts and cost.draft is None):
        with closing(opened()) as engine:
            cost = replace(measure(engine), draft=draft_price(engine) if drafts else None)
        cache.keep(cost, *facts)
    return cost


def plan_reasons(plan: Plan, song: PreparedSong, options: ComputeOptions, devices: Devices) -> list[str]:
    """The reason for each choice of a plan, a line each."""
    guided = "guidance needs a second sequence" if plan.stage1_rows == 2 else "no guidance, so one sequence"
    whole = plan.n_ctx >= context_for(song, 10**9)
    context = "holds the whole song" if whole else "the oldest sections are dropped as it fills"
    lengths = chunk_frames(song)
    drafted = _reason(options.draft_confidence, "by what a draft costs here")
    drafted = drafted if plan.stage1_rows == 2 else "not used without guidance"
    return [
        f"context      {plan.n_ctx} ids: {context}",
        f"stage 1      {plan.stage1_rows} sequences: {guided}",
        f"stage 2      {plan.stage2_rows} sequences: {_rows_reason(plan, options, lengths, devices.memory)}",
        f"drafts       from a confidence of {plan.draft_confidence:g}: {drafted}",
        f"threads      {plan.threads}: {_reason(options.threads, 'one per core')}{_shared_reason(plan)}",
        f"caches       {plan.kv_type}: {_reason(options.kv_type, 'exact enough, half of f32')}",
        f"flash        {_flash_reason(plan, options, devices)}",
        f"ubatch       {plan.ubatch}: {_reason(options.ubatch, 'prompts gain little from more')}",
        f"GPU layers   {_layers_reason(plan, options, devices)}",
    ]


def _reason(requested: object, otherwise: str) -> str:
    return "as requested" if requested is not None else otherwise


def _shared_reason(plan: Plan) -> str:
    """A clause about the stages whose model is small."""
    small = [number for number, each in enumerate((plan.stage1(), plan.stage2()), 1) if each.opened > 1]
    if not small:
        return ""
    stages = " and ".join(map(str, small))
    return f"; stage {stages}: each computes sequences by itself, since the model is small"


def _flash_reason(plan: Plan, options: ComputeOptions, devices: Devices) -> str:
    if options.flash_attention is not None:
        return f"{'on' if plan.flash_attention else 'off'}: as requested"
    if not plan.flash_attention:
        return "off: slower on a CPU"
    return "on: faster on a GPU" if uses_gpu(options, devices) else f"on: {plan.kv_type} caches need it"


def _rows_reason(plan: Plan, options: ComputeOptions, lengths: list[int], free: int | None) -> str:
    if plan.stage2_rows == len(lengths):
        return "all chunks of the song at once"
    if options.stage2_rows:
        return "as requested"
    if plan.stage2_rows == best_rows(lengths, most_rows(plan), plan.step_effort):
        return f"fastest for {len(lengths)} chunks"
    if free is None and options.max_memory is None:
        return "free memory is unknown"
    return "as many as memory holds"


def _layers_reason(plan: Plan, options: ComputeOptions, devices: Devices) -> str:
    layers = plan.gpu_layers
    if not any(layers):
        return "0: the CPU computes" if not devices.gpu else "0: the GPU's memory holds none"
    words = " and ".join(f"{'all' if n < 0 else n} of stage {stage}" for stage, n in enumerate(layers, 1))
    return f"{words}: {_reason(options.gpu_layers, 'as many as its memory holds')}"
