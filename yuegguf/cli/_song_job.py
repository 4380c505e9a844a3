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
from yuegguf.cli._text import minutes
from yuegguf.files.atomic import free_disk
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.prepared import PreparedSong
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


def show_forecast(output: Console, job: SongJob, whole: bool) -> None:
    """Show the time and memory of a job here; with `whole`, its sections and disk too. Raises YueError."""
    from yuegguf.measure.forecast import forecast

    if job.takes > 1:
        output.warn(f"the draft is of all {job.takes} takes, which share its steps; the rest is of one")
    expected = forecast(job)
    sections, lines = _sections(job.song) if whole else ([], [])
    lines += [*expected.reasons, f"memory       {expected.plan.memory / 2**30:.1f} GiB"]
    if expected.plan.gpu_memory:
        lines.append(f"GPU memory   {expected.plan.gpu_memory / 2**30:.1f} GiB")
    free = free_disk(job.parent)
    if whole:
        lines.append(f"disk         {expected.disk / 2**20:.0f} MiB of {free / 2**30:.1f} GiB free")
    lines += [f"{phase:<12} at most {minutes(value)}" for phase, value in expected.seconds.items()]
    least, most = (minutes(value) for value in expected.total)
    span = least if least == most else f"{least} to {most}"
    music = f"{expected.likely_music:.0f} to {expected.music:.0f} s"
    lines.append(f"in all       about {span} for {music} of music")
    for notice in expected.load.notices:
        output.warn(notice)
    if expected.load.factor > 1:
        output.warn(f"the longer time is {expected.load.factor:.1f} times that of an idle machine")
    if whole and expected.disk > free:
        output.warn("the disk is too full for this song")
    output.result(
        {**expected.to_json(), **({"sections": sections, "disk_free": free} if whole else {})}, lines
    )


def _sections(song: PreparedSong) -> tuple[list[dict[str, Any]], list[str]]:
    """Each section to generate: whether its words fit, as facts and as lines."""
    from yuegguf.request.fit import section_fit

    facts, lines = [], []
    for number, section in enumerate(song.sections, 1):
        one = section_fit(section, song.request.segment_seconds, song.request.genre)
        fact = {
            "label": one.label,
            "seconds": one.seconds,
            "syllables": one.syllables,
            "verdict": one.verdict,
        }
        facts.append({**fact, "advice": one.advice})
        lines.append(f"section {number:<4} [{one.label}] at most {one.seconds:g} s, {one.verdict}")
        lines[-1] += f"; {one.advice}" if one.advice else ""
    return facts, lines


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
