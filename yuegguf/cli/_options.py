"""Option groups that several commands share, and how they become dataclasses."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from yuegguf.cli._console import Console
from yuegguf.errors import RequestError, YueError
from yuegguf.lm.adapters import Lora
from yuegguf.models import registry
from yuegguf.planning.compute_options import MOST_BYTES, MOST_THREADS, ComputeOptions, check_threads
from yuegguf.planning.cost import KV_BYTES
from yuegguf.planning.hardware import physical_cores
from yuegguf.request.song_request import FORMATS, MAX_TAKES, MIX_MODES, Reference
from yuegguf.request.song_request import Output as SongOutput

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
pass_output = click.make_pass_decorator(Console)
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")


def models_root() -> Path:
    """The folder of installed models that the command line names, or the default one."""
    chosen = click.get_current_context().find_root().params.get("models_dir")
    return Path(chosen or registry.models_dir())


def size(value: str) -> int:
    """A number of bytes, such as 6G, 800M or 7.5GiB."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
    found = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else -1
    if not 0 <= found <= MOST_BYTES:
        raise ValueError(f"{value[:40]!r} is not a size such as 6G or 800M")
    return found


def _threads(context: click.Context, option: click.Parameter, value: int | None) -> int | None:
    """A number of threads. Raises RequestError for more than this machine's cores can use."""
    check_threads(value, physical_cores())
    return value


def _stack(*options: Callable[..., Any]) -> Callable[[F], F]:
    def apply(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


threads_option = click.option(
    "-t",
    "--threads",
    type=click.IntRange(1, MOST_THREADS),
    callback=_threads,
    help="CPU threads, at most four for each core [default: physical cores].",
)
memory_option = click.option("--max-memory", type=size, help="Refuse to start above this, for example 6G.")
codec_option = click.option("--codec", type=PATH, help="Folder of the exported codec (*.onnx).")

model_options = _stack(
    click.option(
        "-m",
        "--model",
        "--stage1-model",
        "stage1",
        metavar="NAME",
        help="Stage-1 model: en-cot, zh-cot, jp-kr-cot, …-icl, nano, or a .gguf file.",
    ),
    click.option("--stage2-model", "stage2", metavar="NAME", help="Stage-2 model or .gguf file."),
    click.option("--quant", metavar="TYPE", help="Quantisation of stage 1 to use if several are installed."),
    codec_option,
)

lora_option = click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE[:SCALE]",
    help="LoRA adapter of stage 1, a GGUF or an installed name; twice for two [default scale: 1].",
)

machine_options = _stack(
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
        "--device", default="auto", show_default=True, help="auto, cpu, cuda[:N], metal, vulkan[:N]."
    ),
    click.option(
        "--gpu-layers",
        type=click.IntRange(-1, 1000),
        help="Layers on the GPU; -1 = all [default: as many as fit].",
    ),
    memory_option,
    click.option(
        "--snapshot-every",
        type=click.FloatRange(0),
        default=60.0,
        show_default=True,
        metavar="SEC",
        help="Keep the draft's caches on disk this often, for a quick resume; 0 = never.",
    ),
)

sampling_options = _stack(
    click.option(
        "--seed",
        type=int,
        help="Same seed, files, machine, threads and --stage2-batch give the same song [default: random].",
    ),
    click.option(
        "--cfg", metavar="FIRST[,REST]", default="1.5,1.2", show_default=True, help="Guidance scale."
    ),
    click.option(
        "--no-cfg", "--stage1-no-guidance", is_flag=True, help="No guidance: faster, follows the prompt less."
    ),
    click.option("--top-p", type=float, default=0.93, show_default=True),
    click.option("--top-k", type=int, default=50, show_default=True),
    click.option("--temperature", type=float, default=1.0, show_default=True),
    click.option("--repetition-penalty", type=float, default=1.1, show_default=True),
)

folder_options = _stack(
    click.option(
        "-o",
        "--output-dir",
        type=PATH,
        default=Path("songs"),
        show_default=True,
        help="A folder is made inside.",
    ),
    click.option("--name", help="Folder and title [default: from the tags]."),
)

take_option = click.option(
    "--take",
    type=click.IntRange(0, MAX_TAKES),
    default=0,
    metavar="N",
    help="Of the takes that the seed gives with -n, only this one.",
)

retries_option = click.option(
    "--retries",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    help="Draw a section that is plainly broken (silent, a loop) again, at most so often.",
)

takes_option = click.option(
    "-n",
    "--candidates",
    "takes",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Takes to draft side by side; choose with: yuegguf takes.",
)

output_options = _stack(
    click.option(
        "--format", "formats", default="wav", show_default=True, help=f"{', '.join(FORMATS)} (comma list)."
    ),
    click.option("--bits", type=int, default=16, show_default=True, help="16 or 24 (wav, flac)."),
    click.option(
        "--mix",
        type=click.Choice(MIX_MODES),
        default="hybrid",
        show_default=True,
        help="hybrid: codec below 5.5 kHz, Vocos above, joined flat. upstream: the official crossover. "
        "vocos, codec: one of them. split: codec backing, Vocos vocal.",
    ),
    click.option(
        "--vocal-gain",
        type=float,
        default=0.0,
        show_default=True,
        metavar="DB",
        help="Vocal level in the mix.",
    ),
    click.option(
        "--inst-gain",
        type=float,
        default=0.0,
        show_default=True,
        metavar="DB",
        help="Backing level in the mix.",
    ),
    click.option("-r", "--rescale", is_flag=True, help="Scale to peak 0.99 instead of limiting."),
    click.option("--no-stems", is_flag=True, help="Only the mix."),
    click.option("--no-tags", is_flag=True, help='Do not write "AI-generated with YuE" into the files.'),
)


reference_options = _stack(
    click.option("--ref", "--audio-prompt-path", metavar="FILE", help="Style reference: one recording."),
    click.option(
        "--ref-vocal", "--vocal-track-prompt-path", metavar="FILE", help="Style reference: its vocal …"
    ),
    click.option("--ref-inst", "--instrumental-track-prompt-path", metavar="FILE", help="… and its backing."),
    click.option(
        "--ref-start", "--prompt-start-time", type=float, default=0.0, show_default=True, metavar="SEC"
    ),
    click.option(
        "--ref-end", "--prompt-end-time", type=float, default=30.0, show_default=True, metavar="SEC"
    ),
)


def recordings(mix: str | None, vocal: str | None, inst: str | None, start: float, end: float) -> Reference:
    """A reference from the options above. Raises RequestError, also for a file that is not there."""
    for path in (mix, vocal, inst):
        if path and not os.path.isfile(path):
            raise RequestError(f"there is no audio file {path}", "check the name")
    return Reference(mix, vocal, inst, start, end)


def was_given(*names: str) -> bool:
    """Whether any of these options was named, and is not just at its default."""
    context = click.get_current_context()
    return any(context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT for name in names)


def model_choice(options: dict[str, Any]) -> Any:
    """Take the model options out of a command's keywords. Raises RequestError for a scale of --lora."""
    from yuegguf.models.resolve import ModelChoice

    return ModelChoice(
        options.pop("stage1"),
        options.pop("stage2"),
        options.pop("codec"),
        options.pop("quant"),
        models_root(),
        tuple(Lora.parse(text) for text in options.pop("loras", ())),
    )


def song_output(options: dict[str, Any]) -> SongOutput:
    """Take the output options out of a command's keywords. Raises RequestError."""
    formats = tuple(part.strip().lower() for part in options.pop("formats").split(",") if part.strip())
    return SongOutput(
        formats,
        options.pop("bits"),
        options.pop("mix"),
        options.pop("vocal_gain"),
        options.pop("inst_gain"),
        options.pop("rescale"),
        not options.pop("no_stems"),
        not options.pop("no_tags"),
    )


def compute_options(options: dict[str, Any]) -> ComputeOptions:
    """Take the machine options out of a command's keywords. Raises RequestError."""
    device, layers = options.pop("device"), options.pop("gpu_layers")
    return ComputeOptions(
        threads=options.pop("threads"),
        ctx=options.pop("ctx"),
        stage2_rows=options.pop("stage2_batch"),
        kv_type=options.pop("kv_type"),
        flash_attention=options.pop("flash_attention"),
        ubatch=options.pop("ubatch"),
        gpu=wants_gpu(device, layers),
        gpu_layers=layers,
        main_gpu=gpu_index(device),
        max_memory=options.pop("max_memory"),
        snapshot_seconds=options.pop("snapshot_every"),
    )


def wants_gpu(device: str, layers: int | None) -> bool | None:
    """Whether to use a GPU; None = decide. Raises RequestError for a device that this build lacks."""
    kind = device.partition(":")[0].lower()
    if kind not in ("auto", "cpu", "cuda", "metal", "vulkan"):
        raise RequestError(f"there is no device {device!r}", "use auto, cpu, cuda, metal or vulkan")
    if kind == "cpu":
        if layers:
            raise RequestError("--device cpu has no GPU layers", "leave --gpu-layers out")
        return False
    if kind == "auto" and not layers:
        return None
    if not has_gpu():
        raise YueError(
            "the installed llama.cpp has no GPU support", "pass --device cpu, or see: yuegguf doctor"
        )
    return True


def has_gpu() -> bool:
    """Whether the installed llama.cpp can use a GPU."""
    from yuegguf.lm.llama import build_info

    return build_info()["gpu"] == "yes"


def gpu_index(device: str) -> int | None:
    """The number behind a device's colon: "cuda:1" → 1. Raises RequestError."""
    _, colon, number = device.partition(":")
    if colon and not re.fullmatch("[0-9]{1,3}", number):
        raise RequestError(f"there is no device {device!r}", "write a number behind the colon, as in cuda:0")
    return int(number) if colon else None
