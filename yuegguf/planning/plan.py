"""Plan of a song on this machine: context, sequences, threads, cache type; pure arithmetic.

The plan is stored in the song folder, since another one has another batch shape and so gives other bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from yuegguf.codec.protocol import FRAME_RATE, SONG_HOP
from yuegguf.errors import RequestError
from yuegguf.lm.header import ModelFacts
from yuegguf.lm.protocol import MAX_BATCH
from yuegguf.planning.compute_options import (
    MAX_CONTEXT_IDS,
    MAX_MEMORY_BYTES,
    MAX_THREADS,
    QUANTISED_KV_TYPES,
    ComputeOptions,
    Devices,
    check_rpc_server,
    check_threads,
)
from yuegguf.planning.cost import ALL, KV_BYTES, LoadSpec
from yuegguf.planning.memory import MemoryNeed, Options, smaller_loads
from yuegguf.request.prepared import PreparedSong
from yuegguf.request.ranges import check_integer, check_number
from yuegguf.stages.lookahead import MIN_CONFIDENCE
from yuegguf.stages.stage2 import CHUNK_IDS, best_rows, chunk_grid, cpu_step_cost, gpu_step_cost

CONTEXT_STEP, MIN_CONTEXT = 256, 2048
"""Granularity and minimum of a proposed context, in ids; no section fits into a shorter one."""
MAX_CONTEXT = 16384
"""Context of the published stage 1 in training, in ids."""
MAX_STAGE2_ROWS = 16
"""Maximum stage-2 sequences on the CPU: llama.cpp's kernels take 16 at once, and each needs 0.7 GB."""
MAX_GPU_ROWS = 32
"""Maximum stage-2 sequences on a GPU, which gains from more of them."""
GPU_BATCH = 512
"""Ids computed at once on a GPU, which is faster with larger batches."""
LAYER_PHASES = ("draft", "refine")
"""Phases that compute with a language model."""
SMALL_MODEL = 32 << 20
"""Bytes of weights that stay in a processor's caches, so that sequences gain nothing from sharing them."""
DEFAULT_ROWS = 4
"""Stage-2 sequences where free memory is unknown."""


@dataclass(frozen=True)
class Plan:
    """Compute settings of one song."""

    n_ctx: int
    """Ids per stage-1 sequence."""
    stage1_rows: int
    stage2_rows: int
    threads: int
    kv_type: str
    main_gpu: int | None
    memory: int
    """Estimated bytes of main memory of the largest phase."""
    gpu_memory: int
    """Estimated bytes of GPU memory of the largest phase."""
    stage1_gpu_layers: int = 0
    stage2_gpu_layers: int = 0
    flash_attention: bool = False
    ubatch: int = MAX_BATCH
    rpc_server: str | None = None
    """HOST:PORT of the RPC server that holds the GPU layers."""
    stage1_engines: int = 1
    stage2_engines: int = 1
    """Most engines that share a stage's sequences; more than one only for a small model on the CPU."""
    draft_confidence: float = MIN_CONFIDENCE
    """Minimum confidence of a drafted code; another one gives stage 1 other batches."""

    def __post_init__(self) -> None:
        if self.kv_type not in KV_BYTES:
            raise RequestError(f"there is no cache type {self.kv_type!r}", f"use {' or '.join(KV_BYTES)}")
        check_integer("a plan's context", self.n_ctx, 1, MAX_CONTEXT_IDS)
        check_integer("a plan's threads", self.threads, 1, MAX_THREADS)
        check_integer("a plan's ubatch", self.ubatch, 1, 4096)
        check_integer("a plan's GPU", self.main_gpu or 0, 0, 1000)
        for rows in (self.stage1_rows, self.stage2_rows):
            check_integer("a plan's rows", rows, 1, 64)
        for engines in (self.stage1_engines, self.stage2_engines):
            check_integer("a plan's engines", engines, 1, MAX_THREADS)
        for layers in (self.stage1_gpu_layers, self.stage2_gpu_layers):
            check_integer("a plan's GPU layers", layers, ALL, 1000)
        for memory in (self.memory, self.gpu_memory):
            check_integer("a plan's memory", memory, 0, MAX_MEMORY_BYTES)
        check_number("a plan's confidence of drafts", self.draft_confidence, 0, 1)
        if self.rpc_server is not None:
            check_rpc_server(self.rpc_server)

    @property
    def device(self) -> int | str | None:
        """The RPC server or the number of the GPU that holds GPU layers; None = llama.cpp's choice."""
        return self.rpc_server or self.main_gpu

    @property
    def on_own_gpu(self) -> bool:
        """Whether a GPU of the machine itself holds layers."""
        return any(self.gpu_layers) and self.rpc_server is None

    @property
    def gpu_layers(self) -> tuple[int, int]:
        """GPU layers of both stages."""
        return self.stage1_gpu_layers, self.stage2_gpu_layers

    def stage1(self) -> LoadSpec:
        """Load options of stage 1."""
        return self._load_spec(self.stage1_rows, self.n_ctx, self.stage1_gpu_layers, self.stage1_engines)

    def stage2(self) -> LoadSpec:
        """Load options of stage 2."""
        return self._load_spec(self.stage2_rows, CHUNK_IDS, self.stage2_gpu_layers, self.stage2_engines)

    def _load_spec(self, rows: int, ids: int, layers: int, engines: int) -> LoadSpec:
        return LoadSpec(rows, ids, self.kv_type, self.flash_attention, self.ubatch, layers, engines)

    def step_effort(self, rows: int) -> int:
        """Relative cost of a stage-2 step of `rows` sequences (see `stage2.best_rows`)."""
        if self.stage2_gpu_layers == ALL:
            return gpu_step_cost(rows)
        return cpu_step_cost(-(-rows // self.stage2_engines))


@dataclass(frozen=True)
class StageFacts:
    """Sizes of the language models of both stages."""

    stage1: ModelFacts
    stage2: ModelFacts


def make_plan(
    song: PreparedSong, models: StageFacts, options: ComputeOptions, devices: Devices, takes: int = 1
) -> Plan:
    """Plan a song that is drafted in one batch of `takes` takes.

    Raises NotEnoughMemory with the numbers, RequestError for too many threads.
    """
    check_threads(options.threads, devices.cores)
    kv_type, on_gpu = options.kv_type or "f16", uses_gpu(options, devices)
    most = min(options.ctx or MAX_CONTEXT, max(models.stage1.n_ctx_train, options.ctx or 0))
    drafted = Plan(
        n_ctx=context_for(song, most),
        stage1_rows=takes * (2 if song.request.sampling.guided else 1),
        stage2_rows=1,
        threads=options.threads or devices.cores,
        kv_type=kv_type,
        main_gpu=options.main_gpu,
        memory=0,
        gpu_memory=0,
        flash_attention=_flash(options, kv_type, on_gpu),
        ubatch=options.ubatch or (GPU_BATCH if on_gpu else MAX_BATCH),
        rpc_server=options.rpc_server if on_gpu else None,
        draft_confidence=MIN_CONFIDENCE if options.draft_confidence is None else options.draft_confidence,
    )
    placed = split(offloaded(drafted, models, options, devices), models)
    if on_gpu and not (placed.stage1_gpu_layers or placed.stage2_gpu_layers):  # not one layer fits
        return make_plan(song, models, options, replace(devices, gpu=False), takes)
    lengths = chunk_frames(song)
    rows = options.stage2_rows or best_rows(
        lengths, rows_that_fit(placed, models.stage2, options, devices), placed.step_effort
    )
    plan = replace(placed, stage2_rows=min(rows, len(lengths)))
    plan = checked(split(offloaded(plan, models, options, devices), models), models, options, devices)
    return replace(plan, stage1_rows=plan.stage1_rows // takes)


def revise_plan(
    plan: Plan,
    song: PreparedSong,
    models: StageFacts,
    options: ComputeOptions,
    devices: Devices,
    *,
    phase: str,
) -> Plan:
    """Change the plan of a song that continues with `phase` to the user's new options.

    Threads, stage-2 sequences and the device may change; context and cache type may not, since the codes
    sampled so far depend on them. Layers on a GPU of this machine go to the CPU where `devices` has none.
    Raises RequestError, NotEnoughMemory.
    """
    fixed = "leave it out, or start a new song"
    if options.ctx is not None and options.ctx < plan.n_ctx:
        raise RequestError(
            f"this song was planned with {plan.n_ctx} ids of context, not {options.ctx}", fixed
        )
    if options.kv_type not in (None, plan.kv_type):
        raise RequestError(f"this song was planned with {plan.kv_type} caches", fixed)
    if options.flash_attention not in (None, plan.flash_attention):
        word = "with" if plan.flash_attention else "without"
        raise RequestError(f"this song was planned {word} flash attention", fixed)
    if options.draft_confidence not in (None, plan.draft_confidence):
        confidence = f"a confidence of drafts of {plan.draft_confidence:g}"
        raise RequestError(f"this song was planned with {confidence}", fixed)
    changed = replace(
        plan,
        threads=options.threads or plan.threads,
        stage2_rows=min(options.stage2_rows or plan.stage2_rows, len(chunk_frames(song))),
        ubatch=options.ubatch or plan.ubatch,
    )
    lost = plan.on_own_gpu and not devices.gpu and phase in LAYER_PHASES
    if lost or (options.names_device and not _same_server(plan, options)):
        server = options.rpc_server if uses_gpu(options, devices) else None
        changed = offloaded(changed, models, options, devices)
        changed = replace(changed, main_gpu=options.main_gpu, rpc_server=server)
        if changed.gpu_layers != plan.gpu_layers:
            changed = split(changed, models)
    elif plan.rpc_server and not options.names_device and phase in LAYER_PHASES:
        raise RequestError(  # a folder of somebody else must not choose where models are sent
            f"this song was begun with layers on the RPC server at {plan.rpc_server}",
            f"go on there with --device rpc:{plan.rpc_server}, or here with --device cpu",
        )
    return checked(changed, models, options, devices, phase)


def _same_server(plan: Plan, options: ComputeOptions) -> bool:
    """Whether the song goes on with the layers that it has on an RPC server."""
    return options.rpc_server is not None is options.gpu_layers and options.rpc_server == plan.rpc_server


def uses_gpu(options: ComputeOptions, devices: Devices) -> bool:
    """Whether any layer may go to a GPU."""
    return bool(options.gpu_layers) or (options.gpu_layers is None and devices.gpu)


def offloaded(plan: Plan, models: StageFacts, options: ComputeOptions, devices: Devices) -> Plan:
    """The plan with GPU layers for each stage by itself: the number requested, else as many as fit."""

    def layers(model: ModelFacts, spec: LoadSpec) -> int:
        if options.gpu_layers is not None:
            return ALL if options.gpu_layers >= model.layers else options.gpu_layers
        if not devices.gpu:
            return 0
        if devices.gpu_memory is None:
            return ALL
        counts = (ALL, *range(model.layers - 1, 0, -1))
        room = devices.gpu_memory * 9 // 10
        return next((n for n in counts if replace(spec, gpu_layers=n).gpu_bytes(model) <= room), 0)

    first, second = layers(models.stage1, plan.stage1()), layers(models.stage2, plan.stage2())
    return replace(plan, stage1_gpu_layers=first, stage2_gpu_layers=second)


def split(plan: Plan, models: StageFacts) -> Plan:
    """The plan with an engine a thread for each stage whose model is small and on the CPU."""

    def engines(model: ModelFacts, layers: int) -> int:
        return plan.threads if model.bytes <= SMALL_MODEL and not layers else 1

    return replace(
        plan,
        stage1_engines=engines(models.stage1, plan.stage1_gpu_layers),
        stage2_engines=engines(models.stage2, plan.stage2_gpu_layers),
    )


def _flash(options: ComputeOptions, kv_type: str, on_gpu: bool) -> bool:
    """Flash attention as requested, else where it is faster or the cache type needs it."""
    if options.flash_attention is not None:
        return options.flash_attention
    return on_gpu or kv_type in QUANTISED_KV_TYPES


def checked(
    plan: Plan, models: StageFacts, options: ComputeOptions, devices: Devices, phase: str | None = None
) -> Plan:
    """The plan with its memory estimate; `phase` is the one with which a song goes on, None = a new song.

    Raises NotEnoughMemory when a phase from there on needs more than `usable_memory`, or more of the
    GPU's than is free.
    """
    shared, phases = devices.shared_memory, LAYER_PHASES
    first, second = plan.stage1(), plan.stage2()
    rows: dict[Options, LoadSpec] = {
        (f"--stage2-batch {n}",): replace(second, rows=n) for n in range(second.rows - 1, 0, -1)
    }
    contexts, caches = dict[Options, LoadSpec](), list[str]()
    if phase is None:  # the codes of a song that goes on depend on both
        shorter = range(MIN_CONTEXT, first.ids, CONTEXT_STEP)
        contexts = {(f"--ctx {n}",): replace(first, ids=n) for n in reversed(shorter)}
        caches = [kind for kind in QUANTISED_KV_TYPES if KV_BYTES[kind] < KV_BYTES[plan.kv_type]]
    if options.flash_attention is False:
        caches = []
    needs = [
        MemoryNeed("stage 1", models.stage1, first, smaller_loads(first, contexts, caches)),
        MemoryNeed("stage 2", models.stage2, second, rows | smaller_loads(second, rows, caches)),
    ]
    begun = 0 if phase is None else phases.index(phase) if phase in phases else len(needs)
    for need in needs[begun:]:
        requested = options.max_memory is not None
        need.check(usable_memory(options, devices), devices.gpu_memory, shared=shared, requested=requested)
    memory = max(need.load.own_bytes(need.model, shared) for need in needs)
    return replace(plan, memory=memory, gpu_memory=max(need.load.gpu_bytes(need.model) for need in needs))


def usable_memory(options: ComputeOptions, devices: Devices) -> int | None:
    """Memory limit in bytes: the one requested, else the free memory; None = unknown."""
    return devices.memory if options.max_memory is None else options.max_memory


def chunk_frames(song: PreparedSong) -> list[int]:
    """Frames of stage 2's chunks if every section runs to its limit."""
    return [chunk.frames for chunk in chunk_grid(song.frames)] or [0]


def context_for(song: PreparedSong, most: int) -> int:
    """Ids of context for the whole song, a multiple of CONTEXT_STEP or `most`, if that is less.

    Counted without a tokenizer: a text never has more ids than bytes, plus one for each call's
    leading space; markers are 7 ids each; all lyrics are in the header, those of the sections to generate
    in their prompts too.
    """
    text = sum(len(section.text.encode()) for section in (*song.all_sections, *song.sections))
    ids = text + len(song.request.genre.encode()) + 128 + len(song.all_sections) + 24 * len(song.sections)
    reference = song.request.reference
    if reference:
        ids += round(2 * FRAME_RATE * (reference.end - reference.start)) + 32
    ids += sum(2 * cap + 1 for cap in song.caps)
    return min(most, -(-ids // CONTEXT_STEP) * CONTEXT_STEP)


def most_rows(plan: Plan) -> int:
    """Maximum useful stage-2 sequences on the device that holds its layers."""
    return MAX_GPU_ROWS if plan.stage2_gpu_layers == ALL else MAX_STAGE2_ROWS


def rows_that_fit(plan: Plan, stage2: ModelFacts, options: ComputeOptions, devices: Devices) -> int:
    """Sequences that fit into both memories; DEFAULT_ROWS if the memory of their KV caches is unknown."""
    own, gpu = usable_memory(options, devices), devices.gpu_memory
    if (gpu if plan.stage2_gpu_layers == ALL else own) is None:
        return DEFAULT_ROWS

    def fits(rows: int) -> bool:
        spec = replace(plan.stage2(), rows=rows)
        inside = own is None or spec.own_bytes(stage2, devices.shared_memory) <= own * 9 // 10
        return inside and (gpu is None or spec.gpu_bytes(stage2) <= gpu * 9 // 10)

    return next((rows for rows in range(most_rows(plan), 1, -1) if fits(rows)), 1)


def file_bytes(song: PreparedSong) -> int:
    """Maximum bytes of a finished song's folder: audio as PCM (mp3 is smaller), codes and log."""
    output = song.request.output
    samples = SONG_HOP * song.frames * (3 if output.stems else 1) * (2 if output.stereo else 1)
    return len(output.formats) * samples * output.bits // 8 + 64 * song.frames
