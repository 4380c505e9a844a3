"""Options that several commands share, and the values that groups of them become."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._completion import MODEL, models_root_of
from yuegguf.cli._console import Console
from yuegguf.cli._groups import Group
from yuegguf.errors import RequestError
from yuegguf.lm.adapters import Lora
from yuegguf.planning.compute_options import MAX_MEMORY_BYTES, MAX_THREADS, check_threads
from yuegguf.planning.hardware import physical_cores
from yuegguf.request.ranges import MOST_TAKES
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import MAX_TAKES, Reference

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice

PATH = click.Path(path_type=Path, readable=False)
pass_output = click.make_pass_decorator(Console)
force_option = click.option("--force", is_flag=True, help="Replace an existing file.")


def models_root() -> Path:
    """The folder of installed models of the command that runs."""
    return models_root_of(click.get_current_context())


def size(value: str) -> int:
    """A number of bytes, such as 6G, 800M or 7.5GiB."""
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
    found = int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ")) if match else -1
    if not 0 <= found <= MAX_MEMORY_BYTES:
        raise ValueError(f"{value[:40]!r} is not a size such as 6G or 800M")
    return found


def _threads(context: click.Context, option: click.Parameter, value: int | None) -> int | None:
    """A number of threads. Raises RequestError for more than this machine's cores can use."""
    check_threads(value, physical_cores())
    return value


threads_option = click.option(
    "-t",
    "--threads",
    type=click.IntRange(1, MAX_THREADS),
    callback=_threads,
    help="CPU threads, at most four for each core [default: physical cores].",
)
memory_option = click.option("--max-memory", type=size, help="Refuse to start above this, for example 6G.")
codec_option = click.option("--codec", type=PATH, help="Folder of the exported codec (*.onnx).")

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
    type=click.IntRange(1, MOST_TAKES),
    default=1,
    show_default=True,
    help="Takes to draft side by side; choose with: yuegguf takes.",
)


def _starts(context: click.Context, option: click.Parameter, text: str) -> tuple[float, ...]:
    """Seconds from a comma list. Raises BadParameter."""
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list such as 28.5,57", param_hint="--at") from error


starts_option = click.option(
    "--at",
    "starts",
    metavar="SEC,…",
    default="",
    callback=_starts,
    help="Where the second and later sections begin.",
)


def was_given(*names: str) -> bool:
    """Whether any of these options was named, and is not just at its default."""
    context = click.get_current_context()
    return any(context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT for name in names)


def _model_choice(
    stage1: str | None,
    stage2: str | None,
    quant: str | None,
    codec: Path | None,
    loras: tuple[str, ...] = (),
) -> ModelChoice:
    """The choice of models. Raises RequestError for a scale of --lora."""
    from yuegguf.models.resolve import ModelChoice

    adapters = tuple(Lora.parse(text) for text in loras)
    return ModelChoice(stage1, stage2, codec, quant, models_root(), adapters)


def _plain_choice(
    stage1: str | None, stage2: str | None, quant: str | None, codec: Path | None
) -> ModelChoice:
    return _model_choice(stage1, stage2, quant, codec)


_MODELS = (
    click.option(
        "-m",
        "--model",
        "--stage1-model",
        "stage1",
        type=MODEL,
        metavar="NAME",
        help="Stage-1 model: en-cot, zh-cot, jp-kr-cot, …-icl, nano, or a .gguf file or its folder.",
    ),
    click.option(
        "--stage2-model",
        "stage2",
        type=MODEL,
        metavar="NAME",
        help="Stage-2 model, .gguf file or its folder.",
    ),
    click.option("--quant", metavar="TYPE", help="Quantisation of stage 1 to use if there are several."),
    codec_option,
)
_LORA = click.option(
    "--lora",
    "loras",
    multiple=True,
    metavar="FILE[:SCALE]",
    help="LoRA adapter of stage 1, a GGUF or an installed name; twice for two [default scale: 1].",
)
model_options = Group("choice", _plain_choice, *_MODELS)
lora_model_options = Group("choice", _model_choice, *_MODELS, _LORA)
"""Model options and --lora."""


def _seed(seed: int | None) -> int:
    """The seed that was given, or a random one."""
    return secrets.randbelow(2**32) if seed is None else seed


def seed_option(help: str) -> Group[int]:
    """--seed as `seed`; without it a random one."""
    return Group("seed", _seed, click.option("--seed", type=int, help=help))


def _sampling(
    *, cfg: str, no_cfg: bool, top_p: float, top_k: int, temperature: float, repetition_penalty: float
) -> Sampling:
    """Sampling parameters of stage 1. Raises RequestError, BadParameter."""
    if no_cfg and was_given("cfg"):
        raise click.UsageError("--no-cfg turns --cfg off; leave one of them out")
    first, rest = (1.0, 1.0) if no_cfg else _guidance(cfg)
    return Sampling(first, rest, repetition_penalty, temperature, top_k, top_p)


def _guidance(text: str) -> tuple[float, float]:
    """Guidance scales of the first section and of the others. Raises BadParameter."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise click.BadParameter(f"{text!r} is not FIRST[,REST], such as 1.5,1.2", param_hint="--cfg")
    return values[0], values[-1]


song_seed = seed_option(
    "Same seed, files, machine, threads, --stage2-batch and --draft-confidence give the same song "
    "[default: random]."
)
sampling_options = Group(
    "sampling",
    _sampling,
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


@dataclass(frozen=True)
class Destination:
    """Place of a new song."""

    output_dir: Path
    """Folder in which the song folder is made."""
    name: str | None
    """Folder name and title; None = from the tags."""


destination_options = Group(
    "destination",
    Destination,
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


@dataclass(frozen=True)
class ReferenceOptions:
    """Recordings whose style conditions a song, and the window of them, in seconds."""

    ref: str | None
    ref_vocal: str | None
    ref_inst: str | None
    ref_start: float
    ref_end: float

    @property
    def files(self) -> tuple[str, ...]:
        """The recordings that are named."""
        return tuple(file for file in (self.ref, self.ref_vocal, self.ref_inst) if file)

    def reference(self, *, only_tracks: bool = False) -> Reference:
        """The reference; with `only_tracks` of the two tracks alone.

        Raises RequestError, also for a file that is not there.
        """
        mix = None if only_tracks else self.ref
        for path in (mix, self.ref_vocal, self.ref_inst):
            if path and os.path.isdir(path):
                raise RequestError(f"{path} is a folder, not an audio file", "pass a file in it")
            if path and not os.path.isfile(path):
                raise RequestError(f"there is no audio file {path}", "check the name")
        return Reference(mix, self.ref_vocal, self.ref_inst, self.ref_start, self.ref_end)


reference_options = Group(
    "recordings",
    ReferenceOptions,
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
