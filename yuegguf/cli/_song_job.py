"""Options of `run` → a job, checked as far as that goes without a model's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from yuegguf.cli._compute import compute_options, has_gpu
from yuegguf.cli._console import Console
from yuegguf.cli._groups import Group
from yuegguf.cli._options import Destination, destination_options, lora_model_options, takes_option
from yuegguf.cli._preview import draft_options
from yuegguf.cli._request import RequestOptions, request_options
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.preview_options import PreviewOptions

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice

_CODEC = "the converted codec knows its own configuration; see --codec"
_UPSAMPLERS = "the upsamplers are part of the converted codec; see --codec"
_CACHE_TYPE = "the cache type is --kv-type"
WITHOUT_EFFECT: dict[str, tuple[bool, str]] = {
    "--keep-intermediate": (True, "tokens and codes are always kept"),
    "--keep-loaded": (True, "one model is loaded at a time"),
    "--disable-offload-model": (True, "one model is loaded at a time"),
    "--basic-model-config": (False, _CODEC),
    "--resume-path": (False, "in infer.py this names a codec checkpoint; see --codec"),
    "--config-path": (False, _CODEC),
    "--stage1-cache-mode": (False, _CACHE_TYPE),
    "--stage2-cache-mode": (False, _CACHE_TYPE),
    "--stage2-cache-size": (False, "see --stage2-batch"),
    "--stage1-use-exl2": (True, "models are GGUF"),
    "--stage2-use-exl2": (True, "models are GGUF"),
    "--vocal-decoder-path": (False, _UPSAMPLERS),
    "--inst-decoder-path": (False, _UPSAMPLERS),
}
"""Options of infer.py that are accepted and do nothing here: whether it is a flag, and the reason to show."""


def _ignore(context: click.Context, option: click.Parameter, value: object) -> None:
    """Warn of an option without effect."""
    if value:
        context.obj.warn(f"{option.opts[0]} has no effect: {WITHOUT_EFFECT[option.opts[0]][1]}")


def ignored_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Accept the options of infer.py that do nothing here."""
    for name, (is_flag, _) in WITHOUT_EFFECT.items():
        option = click.option(name, is_flag=is_flag, hidden=True, expose_value=False, callback=_ignore)
        command = option(command)
    return command


@dataclass(frozen=True)
class JobOptions:
    """Options of `run` that describe a song and its generation."""

    request: RequestOptions
    takes: int
    destination: Destination
    preview: PreviewOptions
    choice: ModelChoice
    compute: ComputeOptions
    cuda_idx: int | None

    def job(self, output: Console) -> SongJob:
        """A job; warns of what had to be interpreted. Raises YueError, UsageError."""
        from yuegguf.pipeline import create

        _refuse_contradictions(self.request.take, self.takes)
        compute = _with_cuda_index(output, self.compute, self.cuda_idx)
        song, models = create.prepare_song(self.request.request(), self.choice, output.progress)
        place = self.destination
        return SongJob(song, models, place.output_dir, place.name, compute, self.preview, self.takes)


job_options = Group(
    "options",
    JobOptions,
    request_options,
    takes_option,
    destination_options,
    draft_options,
    lora_model_options,
    compute_options,
    click.option("--cuda-idx", type=click.IntRange(0, 999), hidden=True),
    ignored_options,
)


def _refuse_contradictions(take: int, takes: int) -> None:
    """Raise UsageError for options that exclude each other."""
    if take and takes > 1:
        raise click.UsageError("--take is one take and -n makes several; leave one of them out")


def _with_cuda_index(output: Console, compute: ComputeOptions, index: int | None) -> ComputeOptions:
    """infer.py's --cuda_idx: that GPU if there is one, else the CPU, as there."""
    if index is None or compute.gpu is False or compute.main_gpu is not None or compute.rpc_server:
        return compute
    if has_gpu():
        return replace(compute, gpu=True, main_gpu=index)
    output.warn("--cuda-idx has no effect: the installed llama.cpp has no GPU support")
    return compute
