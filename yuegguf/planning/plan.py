"""How a song is computed on this machine: context, rows, threads, cache type; pure arithmetic.

The plan is stored in the song folder, because another plan is another batch shape and so other bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from yuegguf.codec.protocol import FRAME_RATE, SONG_HOP
from yuegguf.errors import RequestError
from yuegguf.lm.header import ModelFacts
from yuegguf.lm.protocol import MAX_BATCH
from yuegguf.planning.cost import ALL, KV_BYTES, LoadSpec
from yuegguf.planning.memory import MemoryNeed
from yuegguf.request.ranges import MAX_SECONDS, check_integer, check_number
from yuegguf.request.song_request import SongRequest
from yuegguf.stages.stage2 import CHUNK_IDS, best_rows, chunk_grid, cpu_step_cost, gpu_step_cost

STEP, SHORTEST = 256, 2048
"""Contexts are multiples of the first; one shorter than the second is not proposed: no section fits."""
MOST_IDS = 131072
"""Most ids of context that can be asked for."""
MAX_CONTEXT = 16384
"""Context that the published stage 1 was trained for, in ids."""
MAX_STAGE2_ROWS = 16
"""llama.cpp's kernels take sixteen rows at once; more gain nothing, and a row's caches take 0.7 GB."""
MAX_GPU_ROWS = 32
"""A GPU gains from more of them."""
GPU_BATCH = 512
"""Ids computed at once on a GPU, which is faster the more there are."""
DEFAULT_ROWS = 4
"""Stage-2 rows where free memory is unknown."""
THREADS_PER_CORE, MOST_THREADS = 4, 1024
"""More threads than the first only wait for each other; the second on any machine."""
FEW_CORES = 2
"""A machine with fewer may be asked for as many threads as one with these."""
MOST_BYTES = 2**50
"""Memory that can be named."""
QUANTISED = ("q8_0", "q4_0")
"""Cache types that only flash attention can read."""


@dataclass(frozen=True)
class ComputeOptions:
    """What the user says about the machine; None = decide."""

    threads: int | None = None
    ctx: int | None = None
    """Most ids of stage-1 context."""
    stage2_rows: int | None = None
    kv_type: str | None = None
    """Number type of the caches: f16, f32, q8_0 or q4_0; None = f16."""
    flash_attention: bool | None = None
    """None = on a GPU, and where the cache type needs it: on the CPU it was slower."""
    ubatch: int | None = None
    """Most ids computed at once; None = 128 on the CPU, 512 on a GPU."""
    gpu: bool | None = None
    """Whether to compute on a GPU; None = if llama.cpp can use one."""
    gpu_layers: int | None = None
    """Layers on the GPU; -1 = all; None = as many as fit."""
    main_gpu: int | None = None
    gpu_memory: int | None = None
    """Bytes free on the GPU; None = unknown."""
    shared_memory: bool = False
    """The GPU has no memory of its own."""
    max_memory: int | None = None
    """Bytes; refuse to start above this instead of above what is free."""
    snapshot_seconds: float = 60.0
    """Keep stage 1's caches on disk this often; 0 = never."""

    def __post_init__(self) -> None:
        if self.kv_type is not None and self.kv_type not in KV_BYTES:
            raise RequestError(f"there is no cache type {self.kv_type!r}", f"use {' or '.join(KV_BYTES)}")
        for name, value, low, high in (
            ("threads", self.threads, 1, MOST_THREADS),
            ("ctx", self.ctx, 512, MOST_IDS),
            ("stage-2 rows", self.stage2_rows, 1, 64),
            ("ubatch", self.ubatch, 1, 4096),
            ("GPU layers", self.gpu_layers, ALL, 1000),
            ("GPU number", self.main_gpu, 0, 1000),
            ("max memory", self.max_memory, 0, MOST_BYTES),
        ):
            if value is not None:
                check_integer(name, value, low, high)
        check_number("snapshot seconds", self.snapshot_seconds, 0.1, MAX_SECONDS, zero=True)
        if self.kv_type in QUANTISED and self.flash_attention is False:
            raise RequestError(f"{self.kv_type} caches need flash attention", "leave it on, or use f16")


@dataclass(frozen=True)
class Plan:
    """The decisions for one song."""

    n_ctx: int
    """Ids per stage-1 row."""
    stage1_rows: int
    stage2_rows: int
    threads: int
    kv_type: str
    main_gpu: int | None
    memory: int
    """Bytes that the largest phase needs, as estimated."""
    gpu_memory: int
    """The same of the GPU's memory."""
    stage1_gpu_layers: int = 0
    stage2_gpu_layers: int = 0
    flash_attention: bool = False
    ubatch: int = MAX_BATCH

    def __post_init__(self) -> None:
        if self.kv_type not in KV_BYTES:
            raise RequestError(f"there is no cache type {self.kv_type!r}", f"use {' or '.join(KV_BYTES)}")
        check_integer("a plan's context", self.n_ctx, 1, MOST_IDS)
        check_integer("a plan's threads", self.threads, 1, MOST_THREADS)
        check_integer("a plan's ubatch", self.ubatch, 1, 4096)
        check_integer("a plan's GPU", self.main_gpu or 0, 0, 1000)
        for rows in (self.stage1_rows, self.stage2_rows):
            check_integer("a plan's rows", rows, 1, 64)
        for layers in (self.stage1_gpu_layers, self.stage2_gpu_layers):
            check_integer("a plan's GPU layers", layers, ALL, 1000)
        for memory in (self.memory, self.gpu_memory):
            check_integer("a plan's memory", memory, 0, MOST_BYTES)

    def stage1(self) -> LoadSpec:
        """How stage 1 is held."""
        return self._held(self.stage1_rows, self.n_ctx, self.stage1_gpu_layers)

    def stage2(self) -> LoadSpec:
        """How stage 2 is held."""
        return self._held(self.stage2_rows, CHUNK_IDS, self.stage2_gpu_layers)

    def _held(self, rows: int, ids: int, layers: int) -> LoadSpec:
        return LoadSpec(rows, ids, self.kv_type, self.flash_attention, self.ubatch, layers)

    def step_effort(self, rows: int) -> int:
        """What a step of stage 2 costs by rows, relative (see `stage2.best_rows`)."""
        return gpu_step_cost(rows) if self.stage2_gpu_layers == ALL else cpu_step_cost(rows)


def make(
    request: SongRequest,
    stage1: ModelFacts,
    stage2: ModelFacts,
    machine: ComputeOptions,
    cores: int,
    free: int | None,
    takes: int = 1,
) -> Plan:
    """Decide, for a song that is drafted beside its other `takes`.

    `free` is in bytes, None where unknown. Raises NotEnoughMemory with the numbers.
    """
    check_threads(machine.threads, cores)
    kv_type, on_gpu = machine.kv_type or "f16", uses_gpu(machine)
    most = min(machine.ctx or MAX_CONTEXT, max(stage1.n_ctx_train, machine.ctx or 0))
    limit = machine.max_memory if machine.max_memory is not None else free
    drafted = Plan(
        n_ctx=context_for(request, most),
        stage1_rows=takes * (2 if request.sampling.guided else 1),
        stage2_rows=1,
        threads=machine.threads or cores,
        kv_type=kv_type,
        main_gpu=machine.main_gpu,
        memory=0,
        gpu_memory=0,
        flash_attention=_flash(machine, kv_type, on_gpu),
        ubatch=machine.ubatch or (GPU_BATCH if on_gpu else MAX_BATCH),
    )
    placed = offloaded(drafted, stage1, stage2, machine)
    if on_gpu and not (placed.stage1_gpu_layers or placed.stage2_gpu_layers):  # its memory holds no layer
        return make(request, stage1, stage2, replace(machine, gpu=False), cores, free, takes)
    lengths = chunk_frames(request)
    rows = machine.stage2_rows or best_rows(
        lengths, _rows_that_fit(placed, stage2, machine, limit), placed.step_effort
    )
    plan = replace(placed, stage2_rows=min(rows, len(lengths)))
    made = checked(offloaded(plan, stage1, stage2, machine), stage1, stage2, machine, limit)
    return replace(made, stage1_rows=made.stage1_rows // takes)


def check_threads(threads: int | None, cores: int) -> None:
    """Raise RequestError for more threads than so many cores can use."""
    most = most_threads(cores)
    if threads is not None and threads > most:
        raise RequestError(
            f"{threads} threads are too many for {cores} core{'s' * (cores > 1)}",
            f"use --threads 1 to {most}",
        )


def most_threads(cores: int) -> int:
    """Threads that so many cores can use."""
    return min(MOST_THREADS, THREADS_PER_CORE * max(cores, FEW_CORES))


def uses_gpu(machine: ComputeOptions) -> bool:
    """Whether any layer may go to a GPU."""
    return bool(machine.gpu_layers) or (machine.gpu_layers is None and bool(machine.gpu))


def offloaded(plan: Plan, stage1: ModelFacts, stage2: ModelFacts, machine: ComputeOptions) -> Plan:
    """The plan with layers on the GPU: as many as asked, else as many as fit, of each stage by itself."""

    def layers(model: ModelFacts, held: LoadSpec) -> int:
        if machine.gpu_layers is not None:
            return ALL if machine.gpu_layers >= model.layers else machine.gpu_layers
        if not machine.gpu:
            return 0
        if machine.gpu_memory is None:
            return ALL
        counts = (ALL, *range(model.layers - 1, 0, -1))
        room = machine.gpu_memory * 9 // 10
        return next((n for n in counts if replace(held, gpu_layers=n).gpu_bytes(model) <= room), 0)

    first, second = layers(stage1, plan.stage1()), layers(stage2, plan.stage2())
    return replace(plan, stage1_gpu_layers=first, stage2_gpu_layers=second)


def _flash(machine: ComputeOptions, kv_type: str, on_gpu: bool) -> bool:
    """Flash attention as asked; else where it is known to win or is needed."""
    if machine.flash_attention is not None:
        return machine.flash_attention
    return on_gpu or kv_type in QUANTISED


def revise(
    plan: Plan,
    request: SongRequest,
    stage1: ModelFacts,
    stage2: ModelFacts,
    machine: ComputeOptions,
    free: int | None,
    phase: str,
) -> Plan:
    """The plan of a song that goes on with `phase`, with what the user now says of the machine.

    Threads, stage-2 rows and the device may change; context and cache type may not, since what is
    drawn already depends on them. Raises RequestError, NotEnoughMemory.
    """
    fixed = "leave it out, or start a new song"
    if machine.ctx is not None and machine.ctx < plan.n_ctx:
        raise RequestError(
            f"this song was planned with {plan.n_ctx} ids of context, not {machine.ctx}", fixed
        )
    if machine.kv_type not in (None, plan.kv_type):
        raise RequestError(f"this song was planned with {plan.kv_type} caches", fixed)
    if machine.flash_attention not in (None, plan.flash_attention):
        word = "with" if plan.flash_attention else "without"
        raise RequestError(f"this song was planned {word} flash attention", fixed)
    changed = replace(
        plan,
        threads=machine.threads or plan.threads,
        stage2_rows=min(machine.stage2_rows or plan.stage2_rows, len(chunk_frames(request))),
        ubatch=machine.ubatch or plan.ubatch,
    )
    if machine.gpu is not None or machine.gpu_layers is not None:
        changed = replace(offloaded(changed, stage1, stage2, machine), main_gpu=machine.main_gpu)
    limit = machine.max_memory if machine.max_memory is not None else free
    return checked(changed, stage1, stage2, machine, limit, phase)


def checked(
    plan: Plan,
    stage1: ModelFacts,
    stage2: ModelFacts,
    machine: ComputeOptions,
    limit: int | None,
    phase: str = "draft",
) -> Plan:
    """The plan with its memory filled in.

    Raises NotEnoughMemory when a phase from `phase` on needs more than `limit` bytes, or more of the
    GPU than is free.
    """
    shared, phases = machine.shared_memory, ("draft", "refine")
    first, second = plan.stage1(), plan.stage2()
    lengths = {n: replace(first, ids=n) for n in range(SHORTEST, first.ids, STEP)}
    rows = {n: replace(second, rows=n) for n in range(1, second.rows)}
    found = [
        MemoryNeed("stage 1", stage1, first, "--ctx", lengths),
        MemoryNeed("stage 2", stage2, second, "--stage2-batch", rows),
    ]
    for stage in found[phases.index(phase) if phase in phases else len(found) :]:
        stage.check(limit, machine.gpu_memory, shared)
    memory = max(stage.held.own_bytes(stage.model, shared) for stage in found)
    return replace(plan, memory=memory, gpu_memory=max(stage.held.gpu_bytes(stage.model) for stage in found))


def chunk_frames(request: SongRequest) -> list[int]:
    """Frames of the chunks that stage 2 has if every section runs to its limit."""
    return [chunk.frames for chunk in chunk_grid(sum(request.frame_caps()))] or [0]


def context_for(request: SongRequest, most: int) -> int:
    """Ids of context that hold the whole song, in steps of 256, at most `most`.

    Counted without a tokenizer: a text never has more ids than bytes, plus one for each call's
    leading space; markers are 7 ids each; all lyrics are in the header, the sung ones in their prompts too.
    """
    everything, sung = request.all_sections(), request.parsed().sections
    text = sum(len(section.text.encode()) for section in (*everything, *sung))
    ids = text + len(request.genre.encode()) + 128 + len(everything) + 24 * len(sung)
    if request.reference:
        ids += round(2 * FRAME_RATE * (request.reference.end - request.reference.start)) + 32
    ids += sum(2 * cap + 1 for cap in request.frame_caps())
    return min(most, -(-ids // STEP) * STEP)


def most_rows(plan: Plan) -> int:
    """Stage-2 rows that are worth having where its layers are."""
    return MAX_GPU_ROWS if plan.stage2_gpu_layers == ALL else MAX_STAGE2_ROWS


def _rows_that_fit(plan: Plan, stage2: ModelFacts, machine: ComputeOptions, limit: int | None) -> int:
    """Rows that fit into both memories; DEFAULT_ROWS where the one that holds their caches is unknown."""
    own, gpu = limit, machine.gpu_memory
    if (gpu if plan.stage2_gpu_layers == ALL else own) is None:
        return DEFAULT_ROWS

    def fits(rows: int) -> bool:
        held = replace(plan.stage2(), rows=rows)
        inside = own is None or held.own_bytes(stage2, machine.shared_memory) <= own * 9 // 10
        return inside and (gpu is None or held.gpu_bytes(stage2) <= gpu * 9 // 10)

    return next((rows for rows in range(most_rows(plan), 1, -1) if fits(rows)), 1)


def file_bytes(request: SongRequest) -> int:
    """Of a finished song's folder, at most: audio as PCM (mp3 is smaller), codes and log."""
    frames, output = sum(request.frame_caps()), request.output
    samples = SONG_HOP * frames * (3 if output.stems else 1)
    return len(output.formats) * samples * output.bits // 8 + 64 * frames
