"""How a song is computed on this machine: context, rows, threads, cache type; pure arithmetic.

The plan is stored in the song folder, because another plan is another batch shape and so other bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from yuegguf.codec.base import FRAME_RATE
from yuegguf.cost import KV_BYTES, ModelFacts, need
from yuegguf.engine.base import BATCH
from yuegguf.errors import DamagedFile, NotEnoughMemory, RequestError
from yuegguf.request import SongRequest
from yuegguf.stages.stage2 import ROW_IDS, chunks

GIB = 2**30
STEP, SHORTEST = 256, 2048
"""Contexts are multiples of the first; one shorter than the second is not proposed: no section fits."""
MAX_CONTEXT = 16384
"""Context that the published stage 1 was trained for, in ids."""
MAX_STAGE2_ROWS = 10
"""More rows than this gained little where it was measured."""
GPU_BATCH = 512
"""Ids computed at once on a GPU, which is faster the more there are."""
DEFAULT_ROWS = 4
"""Stage-2 rows where free memory is unknown."""
QUANTISED = ("q8_0", "q4_0")
"""Cache types that only flash attention can read."""


@dataclass(frozen=True)
class Machine:
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
    gpu_layers: int | None = None
    """Layers on the GPU; -1 = all; None = all if llama.cpp can use one."""
    main_gpu: int | None = None
    max_memory: int | None = None
    """Bytes; refuse to start above this instead of above what is free."""
    snapshot_seconds: float = 60.0
    """Keep stage 1's caches on disk this often; 0 = never."""

    def __post_init__(self) -> None:
        if self.kv_type is not None and self.kv_type not in KV_BYTES:
            raise RequestError(f"there is no cache type {self.kv_type!r}", f"use {' or '.join(KV_BYTES)}")
        for name, value, least in (
            ("threads", self.threads, 1),
            ("ctx", self.ctx, 512),
            ("stage-2 rows", self.stage2_rows, 1),
            ("ubatch", self.ubatch, 1),
            ("snapshot seconds", self.snapshot_seconds, 0),
            ("max memory", self.max_memory, 0),
        ):
            if value is not None and not value >= least:
                raise RequestError(f"{name} {value} is out of range", f"use {least} or more")
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
    gpu_layers: int
    main_gpu: int | None
    memory: int
    """Bytes that the largest phase needs, as estimated."""
    flash_attention: bool = False
    ubatch: int = BATCH

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises DamagedFile."""
        try:
            plan = cls(**data)
            counts = (plan.n_ctx, plan.stage1_rows, plan.stage2_rows, plan.threads, plan.ubatch)
            if plan.kv_type not in KV_BYTES or not all(isinstance(n, int) and n > 0 for n in counts):
                raise TypeError("a value is out of range")
            return plan
        except TypeError as error:
            raise DamagedFile(f"the song's plan is damaged ({error})", "start the song again") from error


def make(
    request: SongRequest,
    stage1: ModelFacts,
    stage2: ModelFacts,
    machine: Machine,
    cores: int,
    free: int | None,
) -> Plan:
    """Decide. `free` is in bytes, None where unknown. Raises NotEnoughMemory with the numbers."""
    kv_type, on_gpu = machine.kv_type or "f16", bool(machine.gpu_layers)
    most = min(machine.ctx or MAX_CONTEXT, max(stage1.n_ctx_train, machine.ctx or 0))
    limit = machine.max_memory if machine.max_memory is not None else free
    drafted = Plan(
        n_ctx=context_for(request, most),
        stage1_rows=2 if request.sampling.guided else 1,
        stage2_rows=1,
        threads=machine.threads or cores,
        kv_type=kv_type,
        gpu_layers=machine.gpu_layers or 0,
        main_gpu=machine.main_gpu,
        memory=0,
        flash_attention=_flash(machine, kv_type, on_gpu),
        ubatch=machine.ubatch or (GPU_BATCH if on_gpu else BATCH),
    )
    rows = machine.stage2_rows or _rows_that_fit(drafted, stage2, limit)
    plan = replace(drafted, stage2_rows=min(rows, chunk_count(request)))
    return checked(plan, stage1, stage2, limit)


def _flash(machine: Machine, kv_type: str, on_gpu: bool) -> bool:
    """Flash attention as asked; else where it is known to win or is needed."""
    if machine.flash_attention is not None:
        return machine.flash_attention
    return on_gpu or kv_type in QUANTISED


def revise(
    plan: Plan,
    request: SongRequest,
    stage1: ModelFacts,
    stage2: ModelFacts,
    machine: Machine,
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
        stage2_rows=min(machine.stage2_rows or plan.stage2_rows, chunk_count(request)),
        gpu_layers=plan.gpu_layers if machine.gpu_layers is None else machine.gpu_layers,
        main_gpu=plan.main_gpu if machine.gpu_layers is None else machine.main_gpu,
        ubatch=machine.ubatch or plan.ubatch,
    )
    limit = machine.max_memory if machine.max_memory is not None else free
    return checked(changed, stage1, stage2, limit, phase)


def checked(
    plan: Plan, stage1: ModelFacts, stage2: ModelFacts, limit: int | None, phase: str = "draft"
) -> Plan:
    """The plan with its memory filled in.

    Raises NotEnoughMemory when a phase from `phase` on needs more than `limit` bytes.
    """

    def draft_bytes(ids: int) -> int:
        return bytes_of(plan, stage1, plan.stage1_rows, ids)

    def refine_bytes(rows: int) -> int:
        return bytes_of(plan, stage2, rows, ROW_IDS)

    draft, refine = draft_bytes(plan.n_ctx), refine_bytes(plan.stage2_rows)
    if limit is not None and draft > limit and phase == "draft":
        lengths = range(SHORTEST, plan.n_ctx, STEP)
        raise _too_much("stage 1", draft, limit, _fitting("--ctx", lengths, draft_bytes, stage1, limit))
    if limit is not None and refine > limit and phase in ("draft", "refine"):
        rows = range(1, plan.stage2_rows)
        instead = _fitting("--stage2-batch", rows, refine_bytes, stage2, limit)
        raise _too_much("stage 2", refine, limit, instead)
    return replace(plan, memory=max(draft, refine))


def bytes_of(plan: Plan, model: ModelFacts, rows: int, ids: int) -> int:
    """What a model with that many rows of ids takes under a plan."""
    return need(model, rows, ids, plan.kv_type, flash=plan.flash_attention, batch=plan.ubatch)


def chunk_count(request: SongRequest) -> int:
    """Chunks that stage 2 has at most: more rows than that would stay empty."""
    return max(1, len(chunks(sum(request.frame_caps()))))


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


def _rows_that_fit(plan: Plan, stage2: ModelFacts, limit: int | None) -> int:
    if limit is None:
        return DEFAULT_ROWS
    rows = MAX_STAGE2_ROWS
    while rows > 1 and bytes_of(plan, stage2, rows, ROW_IDS) > limit * 9 // 10:
        rows -= 1
    return rows


def _fitting(
    option: str, values: range, bytes_with: Callable[[int], int], model: ModelFacts, limit: int
) -> str:
    """What would fit: the largest of the option's smaller values, else a model file of some size."""
    fits = [value for value in values if bytes_with(value) <= limit]
    if fits:
        return f"{option} {fits[-1]}"
    left = model.bytes - (bytes_with(values.start) - limit)
    return f"a model file of at most {left / GIB:.1f} GiB" if left > 0 else "a machine with more memory"


def _too_much(what: str, needed: int, limit: int, instead: str) -> NotEnoughMemory:
    return NotEnoughMemory(
        f"{what} needs about {needed / GIB:.1f} GiB and {limit / GIB:.1f} GiB may be used",
        f"{instead} would fit",
    )
