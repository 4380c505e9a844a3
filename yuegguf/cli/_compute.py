"""Options of the machine that computes a song."""

from __future__ import annotations

import re

import click

from yuegguf.cli._groups import Group
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import memory_option, threads_option
from yuegguf.errors import RequestError
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import KV_BYTES


def _compute_options(
    *,
    threads: int | None,
    ctx: int | None,
    kv_type: str | None,
    flash_attention: bool | None,
    ubatch: int | None,
    stage2_batch: int | None,
    draft_confidence: float | None,
    device: str,
    gpu_layers: int | None,
    max_memory: int | None,
    snapshot_every: float,
) -> ComputeOptions:
    """The machine options as one value. Raises RequestError."""
    return ComputeOptions(
        threads=threads,
        ctx=ctx,
        stage2_rows=stage2_batch,
        draft_confidence=draft_confidence,
        kv_type=kv_type,
        flash_attention=flash_attention,
        ubatch=ubatch,
        gpu=wants_gpu(device, gpu_layers),
        gpu_layers=gpu_layers,
        main_gpu=gpu_index(device),
        rpc_server=rpc_server(device),
        max_memory=max_memory,
        snapshot_seconds=snapshot_every,
    )


compute_options = Group(
    "compute",
    _compute_options,
    threads_option,
    click.option(
        "--ctx", type=click.IntRange(512, 131072), help="Most ids of context [default: as the song needs]."
    ),
    click.option(
        "--kv-type",
        type=click.Choice(sorted(KV_BYTES), case_sensitive=False),
        help="Number type of the context's cache [default: f16]; q8_0 and q4_0 need flash attention.",
    ),
    click.option(
        "--flash-attn/--no-flash-attn",
        "flash_attention",
        default=None,
        help="Flash attention [default: on a GPU; slower on the CPU].",
    ),
    click.option(
        "--ubatch",
        type=click.IntRange(1, 4096),
        help="Most ids of a prompt computed at once [default: 128, on a GPU 512].",
    ),
    click.option(
        "--stage2-batch",
        "--stage2-batch-size",
        type=click.IntRange(1, 64),
        help="6-second chunks refined together [default: as memory allows].",
    ),
    click.option(
        "--draft-confidence",
        type=Number(0, 1),
        help="Speculative decoding: least confidence of a drafted code, 1 = no drafts "
        "[default: by what a draft costs here, once --plan has timed it, else 0.3].",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda[:N], metal, vulkan[:N], rpc:HOST:PORT.",
    ),
    click.option(
        "--gpu-layers",
        type=click.IntRange(-1, 1000),
        help="Layers on the GPU; -1 = all [default: as many as fit].",
    ),
    memory_option,
    click.option(
        "--snapshot-every",
        type=float,
        default=60.0,
        show_default=True,
        metavar="SEC",
        help="Keep the draft's caches on disk this often (0.1 or more), for a quick resume; 0 = never.",
    ),
)


RPC = "rpc"
"""Device that is a server of llama.cpp's RPC."""


def rpc_server(device: str) -> str | None:
    """The server behind "rpc:", HOST:PORT; None for another device."""
    kind, _, server = device.partition(":")
    return server if kind.lower() == RPC else None


def wants_gpu(device: str, layers: int | None) -> bool | None:
    """Whether to use a GPU; None = decide. Raises RequestError for a device that this build lacks."""
    kind = device.partition(":")[0].lower()
    if kind not in ("auto", "cpu", "cuda", "metal", "vulkan", RPC):
        raise RequestError(
            f"there is no device {device!r}", "use auto, cpu, cuda, metal, vulkan or rpc:HOST:PORT"
        )
    if kind == "cpu":
        if layers:
            raise RequestError("--device cpu has no GPU layers", "leave --gpu-layers out")
        return False
    if kind == "auto" and not layers:
        return None
    if kind == RPC:
        return True
    from yuegguf.lm.build import check_gpu

    check_gpu()
    return True


def has_gpu() -> bool:
    """Whether the installed llama.cpp can use a GPU."""
    from yuegguf.lm.build import build_info

    return build_info()["gpu"] == "yes"


def gpu_index(device: str) -> int | None:
    """The number behind a device's colon: "cuda:1" → 1. Raises RequestError."""
    kind, colon, number = device.partition(":")
    if kind.lower() == RPC:
        return None
    if colon and not re.fullmatch("[0-9]{1,3}", number):
        raise RequestError(f"there is no device {device!r}", "write a number behind the colon, as in cuda:0")
    return int(number) if colon else None
