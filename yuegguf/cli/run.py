"""`run` and `resume`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.api import songs as api
from yuegguf.cli._cluster_options import ClusterChoice, cluster_options
from yuegguf.cli._completion import SONG
from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._forecast import show_forecast
from yuegguf.cli._generate import finish, go_on_together, show, strict_option
from yuegguf.cli._options import PATH, model_options, pass_output, was_given
from yuegguf.cli._preview import preview_options
from yuegguf.cli._queue_file import OWN_OPTIONS
from yuegguf.cli._queue_part import Part, PartType
from yuegguf.cli._signals import laptop_options, stop_on_signals
from yuegguf.cli._song_job import JobOptions, job_options
from yuegguf.errors import quoted
from yuegguf.planning.compute_options import MAX_PARALLEL, ComputeOptions
from yuegguf.progress import Progress
from yuegguf.request.song_request import Song

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice


@click.command(short_help="make a song from tags and lyrics")
@job_options
@click.option("--plan", "plan_only", is_flag=True, help="Say what it will take and why, and stop.")
@click.option("--dry-run", is_flag=True, help="--plan, with the sections, their fit, and the disk.")
@click.option("--queue", type=PATH, metavar="FILE", help="Generate the songs of a YAML file.")
@click.option(
    "--parallel",
    type=click.IntRange(1, MAX_PARALLEL),
    default=1,
    show_default=True,
    metavar="N",
    help="With --queue: draft so many songs together, as far as they fit into memory.",
)
@click.option(
    "--part",
    type=PartType(),
    metavar="K/N",
    help="With --queue: only every N-th song, from song K on, counted from 0, for one of N machines.",
)
@click.option("--stop-at", metavar="HH:MM", help="With --queue: stop at this time; run it again to go on.")
@strict_option
@cluster_options
@laptop_options
@pass_output
def run(
    output: Console,
    /,
    options: JobOptions,
    plan_only: bool,
    dry_run: bool,
    queue: Path | None,
    parallel: int,
    part: Part | None,
    stop_at: str | None,
    strict: bool,
    cluster: ClusterChoice | None,
) -> int:
    """Generate a song of lyrics: a folder with mix, vocals and instrumental.

    \b
    yuegguf run --example
    yuegguf run --example --draft --preview
    yuegguf run --example --instrumental -n 4
    yuegguf run -g "inspiring female pop airy vocal" -l lyrics.txt --seed 7
    yuegguf run --genre_txt genre.txt --lyrics_txt lyrics.txt --run_n_segments 2
    """
    if queue is not None:
        from yuegguf.cli._queue_run import QueueOptions, forecast_queue, generate_queue

        command = _without_song_options()
        if plan_only or dry_run:
            return forecast_queue(output, command, queue, part, dry_run)
        return generate_queue(output, command, queue, QueueOptions(part, parallel, stop_at, strict, cluster))
    for name in ("stop_at", "parallel", "part", "cluster"):
        if was_given(name):
            raise click.UsageError(f"--{name.replace('_', '-')} belongs to --queue")
    from yuegguf.pipeline import takes

    job = options.job(output)
    if plan_only or dry_run:
        show_forecast(output, job, dry_run)
        return 0
    return finish(output, takes.start(job), job.models, job.compute, strict=strict)


def _without_song_options() -> click.Command:
    """`run`, called with options of a queue alone. Raises UsageError."""
    command = click.get_current_context().command
    for option in command.params:
        name = str(option.name)
        if name not in OWN_OPTIONS and was_given(name):
            raise click.UsageError(
                f"--{name.replace('_', '-')} belongs into the queue's file, under defaults"
            )
    return command


@click.command(short_help="go on with an interrupted song")
@click.argument("song", type=SONG, required=False)
@click.option(
    "-o",
    "--output-dir",
    type=PATH,
    default=Path("songs"),
    show_default=True,
    help="Where to look for the newest.",
)
@strict_option
@preview_options
@model_options
@compute_options
@laptop_options
@pass_output
def resume(
    output: Console,
    /,
    song: Path | None,
    output_dir: Path,
    strict: bool,
    preview_seconds: float | None,
    choice: ModelChoice,
    compute: ComputeOptions,
) -> int:
    """Go on with SONG at the exact token; without SONG, with the newest interrupted one.

    A song of `run --draft` stops after its draft again; `refine` takes it further. A preview goes on if
    there was one.

    \b
    yuegguf resume
    yuegguf resume songs/inspiring-female-pop-1a2b3c
    """
    from yuegguf.pipeline import takes as library
    from yuegguf.song.folder import SongFolder
    from yuegguf.song.lookup import newest_interrupted

    folder = song or newest_interrupted(output_dir)
    if folder is None:
        others = f"see: yuegguf songs list {quoted(output_dir)}"
        if not output_dir.exists():
            others = "make one with: yuegguf run --example"
        output.result({"song": None}, [f"there is no interrupted song in {output_dir}; {others}"])
        return 0
    if takes := library.of(folder):
        return go_on_together(output, takes, choice, compute, strict=strict)
    begun = SongFolder.open(folder)
    output.display.begin(begun, draft_only=bool(begun.early.draft))
    if preview_seconds and begun.state != "draft":
        output.warn("--preview has no effect: stage 1 is done")

    def work(progress: Progress, stop: threading.Event) -> Song:
        return api.resume(
            folder, choice, compute=compute, preview_seconds=preview_seconds, progress=progress, stop=stop
        )

    return go_on(output, compute, work, strict=strict)


def go_on(
    output: Console,
    compute: ComputeOptions,
    work: Callable[[Progress, threading.Event], Song],
    *,
    strict: bool,
) -> int:
    """Let `work` go on with a song until a signal stops it, and show the song; the exit code, with `strict`
    also of missing words.
    """
    device = compute.rpc_server is None and compute.gpu is not None  # of a server the work itself warns
    changed = compute.stage2_rows or compute.ubatch or device or compute.main_gpu is not None
    if changed or compute.gpu_layers is not None:
        output.warn("another batch or device changes the last bits: the song may go on differently")
    with stop_on_signals(output) as stop:
        song = work(output.progress, stop)
    return show(output, song, strict=strict)
