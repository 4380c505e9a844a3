"""How a song is computed on this machine: context, rows, threads, cache type; pure arithmetic.

The plan is stored in the song folder, because another plan is another batch shape and so other bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from yuegguf.codec.base import FRAME_RATE
from yuegguf.errors import DamagedFile, NotEnoughMemory
from yuegguf.request import SongRequest
from yuegguf.stages.stage2 import ROW_IDS, chunks

MAX_CONTEXT = 16384
"""Context that the published stage 1 was trained for, in ids."""
MAX_STAGE2_ROWS = 10
"""More rows than this gained little where it was measured."""
WORKSPACE = 300 * 2**20
"""Bytes for compute buffers, Python and libraries."""
KV_BYTES = {"f16": 2, "f32": 4}


@dataclass(frozen=True)
class Machine:
    """What the user says about the machine; None = decide."""

    threads: int | None = None
    ctx: int | None = None
    """Most ids of stage-1 context."""
    stage2_rows: int | None = None
    kv_type: str = "f16"
    gpu_layers: int = 0
    main_gpu: int | None = None
    max_memory: int | None = None
    """Bytes; refuse to start above this instead of above what is free."""
    snapshot_seconds: float = 60.0
    """Keep stage 1's caches on disk this often; 0 = never."""


@dataclass(frozen=True)
class ModelFacts:
    """What the plan needs to know of a language model."""

    bytes: int
    kv_width: int
    """Elements of one id in the cache: 2 · layers · KV heads · head size."""
    n_ctx_train: int


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

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises DamagedFile."""
        try:
            plan = cls(**data)
            counts = (plan.n_ctx, plan.stage1_rows, plan.stage2_rows, plan.threads)
            if plan.kv_type not in KV_BYTES or not all(isinstance(n, int) and n > 0 for n in counts):
                raise TypeError("a value is out of range")
            return plan
        except TypeError as error:
            raise DamagedFile(f"the song's plan is damaged ({error})", "start the song again") from error


def model_facts(metadata: Mapping[str, str], size: int) -> ModelFacts:
    """Read a GGUF's scalar metadata. Raises DamagedFile when it is not a LLaMA."""
    try:
        layers = int(metadata["llama.block_count"])
        heads = int(metadata["llama.attention.head_count"])
        kv_heads = int(metadata.get("llama.attention.head_count_kv", heads))
        width = int(metadata["llama.embedding_length"]) // heads
        context = int(metadata["llama.context_length"])
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise DamagedFile(f"this GGUF is not a LLaMA model (no {error})", "use YuE's models") from error
    return ModelFacts(size, 2 * layers * kv_heads * width, context)


def make(
    request: SongRequest,
    stage1: ModelFacts,
    stage2: ModelFacts,
    machine: Machine,
    cores: int,
    free: int | None,
) -> Plan:
    """Decide. `free` is in bytes, None where unknown. Raises NotEnoughMemory with the numbers."""
    limit = machine.max_memory if machine.max_memory is not None else free
    kv = KV_BYTES[machine.kv_type]
    n_ctx = context_for(request, min(machine.ctx or MAX_CONTEXT, max(stage1.n_ctx_train, machine.ctx or 0)))
    rows1 = 2 if request.sampling.guided else 1
    need1 = stage1.bytes + rows1 * n_ctx * stage1.kv_width * kv + WORKSPACE
    _require(need1, limit, "stage 1", "a smaller quantisation, --ctx or --no-cfg")
    row = ROW_IDS * stage2.kv_width * kv
    rows2 = machine.stage2_rows or _rows_that_fit(request, stage2, row, limit)
    need2 = stage2.bytes + rows2 * row + WORKSPACE
    _require(need2, limit, "stage 2", "a smaller quantisation or --stage2-batch 1")
    threads = machine.threads or cores
    memory = max(need1, need2)
    gpu = (machine.gpu_layers, machine.main_gpu)
    return Plan(n_ctx, rows1, rows2, threads, machine.kv_type, *gpu, memory)


def context_for(request: SongRequest, most: int) -> int:
    """Ids of context that hold the whole song, in steps of 256, at most `most`.

    Counted without a tokenizer: a text never has more ids than bytes, plus one for each call's
    leading space; markers are 7 ids each, and the lyrics appear twice (header and section prompts).
    """
    lyrics = request.parsed()
    text = sum(len(section.text.encode()) for section in lyrics.sections)
    ids = 2 * text + len(request.genre.encode()) + 128 + 24 * len(lyrics.sections)
    if request.reference:
        ids += round(2 * FRAME_RATE * (request.reference.end - request.reference.start)) + 32
    ids += sum(2 * cap + 1 for cap in request.frame_caps())
    return min(most, -(-ids // 256) * 256)


def _rows_that_fit(request: SongRequest, stage2: ModelFacts, row: int, limit: int | None) -> int:
    wanted = min(MAX_STAGE2_ROWS, len(chunks(sum(request.frame_caps()))))
    if limit is None:
        return min(wanted, 4)
    return max(1, min(wanted, (limit * 9 // 10 - stage2.bytes - WORKSPACE) // row))


def _require(need: int, limit: int | None, what: str, instead: str) -> None:
    if limit is not None and need > limit:
        raise NotEnoughMemory(
            f"{what} needs about {need / 2**30:.1f} GiB and {limit / 2**30:.1f} GiB may be used",
            f"use {instead}",
        )
