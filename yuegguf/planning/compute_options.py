"""What the user says about how to compute, and what this machine has to compute on."""

from __future__ import annotations

from dataclasses import dataclass

from yuegguf.errors import RequestError
from yuegguf.planning.cost import ALL, KV_BYTES
from yuegguf.request.ranges import MAX_SECONDS, check_integer, check_number

MOST_IDS = 131072
"""Most ids of context that can be asked for."""
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
    """What the user says about how to compute; None = decide."""

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
class Devices:
    """What this machine has."""

    cores: int
    """Physical cores that this process may use."""
    memory: int | None = None
    """Bytes free; None = unknown."""
    gpu: bool = False
    """Whether layers go to a GPU."""
    gpu_memory: int | None = None
    """Bytes free on the GPUs that are used; None = unknown."""
    shared_memory: bool = False
    """The GPU has no memory of its own."""


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
