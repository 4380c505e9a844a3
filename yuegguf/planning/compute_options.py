"""The user's compute options, and the devices of this machine."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from yuegguf.errors import RequestError
from yuegguf.files.field_types import take_types
from yuegguf.planning.cost import ALL, KV_BYTES
from yuegguf.request.ranges import MAX_SECONDS, check_integer, check_number

MAX_CONTEXT_IDS = 131072
"""Maximum of `ComputeOptions.ctx`, in ids."""
THREADS_PER_CORE, MAX_THREADS = 4, 1024
"""Maximum threads per core, since more only wait for each other, and on any machine."""
FEW_CORES = 2
"""Minimum number of cores that THREADS_PER_CORE counts."""
MAX_MEMORY_BYTES = 2**50
"""Maximum of a memory option, in bytes."""
QUANTISED_KV_TYPES = ("q8_0", "q4_0")
"""KV cache types that only flash attention can read."""
RPC_SERVER = re.compile(r"([A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]{0,251}[A-Za-z0-9]):([1-9][0-9]{0,4})")
"""HOST:PORT of an RPC server of llama.cpp, which knows no IPv6."""
MAX_PORT = 65535
MAX_PARALLEL = 32
"""Maximum songs that are drafted together; with guidance each has two sequences."""


@dataclass(frozen=True)
class ComputeOptions:
    """Compute options of the user; None = automatic."""

    threads: int | None = None
    ctx: int | None = None
    """Maximum ids of the stage-1 context."""
    stage2_rows: int | None = None
    kv_type: str | None = None
    """Number type of the KV caches: f16, f32, q8_0 or q4_0; None = f16."""
    flash_attention: bool | None = None
    """None = on a GPU, and with QUANTISED_KV_TYPES: on the CPU it was slower."""
    ubatch: int | None = None
    """Maximum ids computed at once; None = 128 on the CPU, 512 on a GPU."""
    gpu: bool | None = None
    """Use a GPU; None = if llama.cpp can."""
    gpu_layers: int | None = None
    """Layers on the GPU; -1 = all; None = as many as fit."""
    main_gpu: int | None = None
    rpc_server: str | None = None
    """HOST:PORT of a server of llama.cpp's RPC, whose devices take the place of the GPU."""
    draft_confidence: float | None = None
    """Minimum confidence of a drafted code, 1 = none is drafted; None = by what a draft costs here."""
    max_memory: int | None = None
    """Memory limit in bytes; None = the free memory."""
    snapshot_seconds: float = 60.0
    """Seconds between snapshots of stage 1's KV cache on disk; 0 = none."""

    def __post_init__(self) -> None:
        take_types(self)
        if self.kv_type is not None and self.kv_type not in KV_BYTES:
            raise RequestError(f"there is no cache type {self.kv_type!r}", f"use {' or '.join(KV_BYTES)}")
        for name, value, low, high in (
            ("threads", self.threads, 1, MAX_THREADS),
            ("ctx", self.ctx, 512, MAX_CONTEXT_IDS),
            ("stage-2 rows", self.stage2_rows, 1, 64),
            ("ubatch", self.ubatch, 1, 4096),
            ("GPU layers", self.gpu_layers, ALL, 1000),
            ("GPU number", self.main_gpu, 0, 1000),
            ("max memory", self.max_memory, 0, MAX_MEMORY_BYTES),
        ):
            if value is not None:
                check_integer(name, value, low, high)
        if self.draft_confidence is not None:
            check_number("the confidence of drafts", self.draft_confidence, 0, 1)
        check_number("snapshot seconds", self.snapshot_seconds, 0.1, MAX_SECONDS, zero=True)
        if self.kv_type in QUANTISED_KV_TYPES and self.flash_attention is False:
            raise RequestError(f"{self.kv_type} caches need flash attention", "leave it on, or use f16")
        if self.rpc_server is not None:
            check_rpc_server(self.rpc_server)
            if self.main_gpu is not None or self.gpu is False:
                raise RequestError(
                    "an RPC server takes the place of the GPU", "name no other device beside it"
                )

    @property
    def names_device(self) -> bool:
        """Whether the user says where layers go."""
        return any(named is not None for named in (self.gpu, self.gpu_layers, self.rpc_server))


@dataclass(frozen=True)
class Devices:
    """Devices of this machine and their free memory."""

    cores: int
    """Physical cores that this process may use."""
    memory: int | None = None
    """Free memory in bytes; None = unknown."""
    gpu: bool = False
    """A GPU may hold layers."""
    gpu_memory: int | None = None
    """Free memory in bytes of the GPUs in use; None = unknown."""
    shared_memory: bool = False
    """The GPU has no memory of its own."""

    def with_free(self, other: Devices) -> Devices:
        """These devices with the memory that is free here or in `other`, whichever is more."""
        return replace(
            self,
            memory=_most(self.memory, other.memory),
            gpu_memory=_most(self.gpu_memory, other.gpu_memory),
        )


def _most(one: int | None, other: int | None) -> int | None:
    """The larger number of bytes; that which is known if only one is."""
    return max((known for known in (one, other) if known is not None), default=None)


def check_rpc_server(text: object) -> None:
    """Raise RequestError for what is no HOST:PORT."""
    match = RPC_SERVER.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[2]) > MAX_PORT:
        raise RequestError(
            f"there is no RPC server {text!r}",
            "write a name or an IPv4 address, and a port: rpc:127.0.0.1:50052",
        )


def is_here(server: str) -> bool:
    """Whether an RPC server, HOST:PORT, has a loopback address, so that it takes this machine's memory."""
    host = server.rpartition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_threads(threads: int | None, cores: int) -> None:
    """Raise RequestError for more threads than `cores` cores can use."""
    most = most_threads(cores)
    if threads is not None and threads > most:
        raise RequestError(
            f"{threads} threads are too many for {cores} core{'s' * (cores > 1)}",
            f"use --threads 1 to {most}",
        )


def most_threads(cores: int) -> int:
    """Maximum useful number of threads on `cores` cores."""
    return min(MAX_THREADS, THREADS_PER_CORE * max(cores, FEW_CORES))
