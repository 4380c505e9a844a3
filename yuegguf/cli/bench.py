"""`bench`: measure this machine, on the models at hand or on random ones of the real shapes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yuegguf.cli._builds import BuildOptions, build_options, compare_builds
from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import PATH, model_options, pass_output
from yuegguf.cli._text import minutes
from yuegguf.cli.quality import quality
from yuegguf.errors import RequestError
from yuegguf.lm.vocab import StageRole
from yuegguf.planning.compute_options import ComputeOptions

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice, Models

STAGES = {"1": "stage1", "2": "stage2", "render": "render"}
SHAPES: dict[str, tuple[StageRole, ...]] = {
    "real": ("stage1", "stage2"),
    "stage1": ("stage1",),
    "stage2": ("stage2",),
    "nano": (),
}
"""Value of --shape → stages that get random models."""
DEFAULT_TYPE = "Q4_0"
"""The fastest on a CPU where it was measured."""


@click.group(
    short_help="measure the speed of this machine, or compare two models", invoke_without_command=True
)
@click.option(
    "--shape",
    type=click.Choice(list(SHAPES)),
    help="Random models of YuE's real shapes, made on the spot: real, stage1, stage2; or the bundled nano.",
)
@click.option("--synthetic", type=PATH, help="Keep those models in this folder [default: removed].")
@click.option("--stages", default="1,2,render", show_default=True, help="What to measure (comma list).")
@click.option(
    "--song-seconds",
    type=Number(2, 3600),
    default=60.0,
    show_default=True,
    help="Song to plan for.",
)
@click.option("--seconds", type=Number(0.1, 600), default=10.0, show_default=True, help="Per stage, about.")
@click.option(
    "--far",
    type=click.IntRange(64, 16000),
    default=2048,
    show_default=True,
    help="Ids in the cache for a late step.",
)
@build_options
@model_options
@compute_options
@pass_output
def bench(
    output: Console,
    /,
    shape: str | None,
    synthetic: Path | None,
    stages: str,
    song_seconds: float,
    seconds: float,
    far: int,
    builds: BuildOptions,
    choice: ModelChoice,
    compute: ComputeOptions,
) -> None:
    """Time the stages: steps, a whole song, and how near to what the memory allows.

    \b
    yuegguf bench
    yuegguf bench --shape stage2 --quant Q4_0 --stage2-batch 10
    yuegguf bench --shape real --song-seconds 180 --json
    yuegguf bench --builds --shape stage2 --quant Q4_0
    """
    if click.get_current_context().invoked_subcommand:
        return
    from yuegguf.measure import bench as benchmark

    names = _stages(stages, shape)
    with _models(output, choice, shape, synthetic) as models:
        if builds.wanted:
            numbers = tuple(number for number, name in STAGES.items() if name in names)
            made = [getattr(models, role).parent for role in SHAPES.get(shape or "", ())]
            compare_builds(output, builds, numbers, made[0] if made else None)
            return
        job = benchmark.Bench(models, compute, song_seconds, seconds, far)
        report = benchmark.run_bench(job, names, output.say)
    output.result(report, table(report))


bench.add_command(quality)


def _stages(text: str, shape: str | None) -> tuple[str, ...]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names or any(name not in STAGES for name in names):
        raise RequestError(f"{text!r} are not stages", f"use {', '.join(STAGES)}")
    wanted = tuple(STAGES[name] for name in names)
    if shape in ("stage1", "stage2"):
        wanted = tuple(name for name in wanted if name == shape)
    if not wanted:
        raise RequestError(f"--shape {shape} leaves nothing of --stages {text}", "leave one of them out")
    return wanted


@contextmanager
def _models(output: Console, choice: ModelChoice, shape: str | None, kept: Path | None) -> Iterator[Models]:
    """The user's models, or random ones for as long as they are needed."""
    from yuegguf.models.resolve import NANO, resolve

    if shape is None:
        yield resolve(choice)
        return
    found = resolve(replace(choice, stage1=NANO, stage2=NANO, quant=None))
    roles = SHAPES[shape]
    kind = (choice.quant or DEFAULT_TYPE).upper()
    with tempfile.TemporaryDirectory() as scratch:
        folder = kept or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        files = {role: _synthetic_model(output, folder / f"{role}-{kind}.gguf", role, kind) for role in roles}
        first, second = (files.get("stage1", found.stage1), files.get("stage2", found.stage2))
        yield replace(found, name=shape, stage1=first, stage2=second)


def _synthetic_model(output: Console, path: Path, role: StageRole, kind: str) -> Path:
    from yuegguf_convert.synthetic import write_synthetic

    if not path.exists():
        output.say(f"making a random {role} of {kind}")
        write_synthetic(path, role, kind)
    return path


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    lines = [
        f"{report['cpu']}, {report['threads']} threads, {report['bandwidth'] / 1e9:.1f} GB/s from memory",
        f"a song of {report['song']:g} s:",
    ]
    for stage in report["stages"]:
        peak = f"{stage['peak_bytes'] / 2**30:.1f} GiB" if stage["peak_bytes"] else "memory unknown"
        part = stage["bandwidth_share"]
        share = "on a GPU" if part is None else f"{part:.0%} of the memory's bandwidth"
        lines += [
            f"{stage['stage']}  {stage['file']}, {stage['bytes'] / 2**30:.2f} GiB, {stage['rows']} rows",
            f"        step {stage['near_ms']:.1f} ms, at {stage['far']} ids a row {stage['far_ms']:.1f} ms, "
            f"prompt {stage['prompt_per_second']:.0f} ids/s",
            f"        {share}, own overhead {stage['overhead']:.1%}, peak {peak}",
            f"        the song {minutes(stage['song_seconds'])}, {stage['real_time']:.2f} x its length",
        ]
    if "render" in report:
        render = report["render"]
        lines.append(
            f"render  the song {minutes(render['song_seconds'])}, {render['real_time']:.2f} x its length"
        )
    return lines
