"""`run` and `resume`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from yuegguf import api
from yuegguf.cli._console import Console
from yuegguf.cli._early import draft_options, preview_options, preview_seconds
from yuegguf.cli._generate import finish, go_on_together, show
from yuegguf.cli._options import (
    PATH,
    compute_options,
    folder_options,
    lora_option,
    machine_options,
    model_choice,
    model_options,
    output_options,
    pass_output,
    reference_options,
    retries_option,
    sampling_options,
    take_option,
    takes_option,
    was_given,
)
from yuegguf.cli._queue import generate_queue
from yuegguf.cli._signals import laptop_options, stop_on_signals
from yuegguf.cli._song_job import foretell, job_of
from yuegguf.request.song_request import Song


def infer_options(command: Any) -> Any:
    """infer.py's flags that have another shape here."""
    flags = ("--keep-intermediate", "--use-audio-prompt", "--use-dual-tracks-prompt")
    for flag in (*flags, "--stage1-use-exl2", "--stage2-use-exl2"):
        command = click.option(flag, is_flag=True, hidden=True)(command)
    command = click.option("--keep-loaded", "--disable-offload-model", is_flag=True, hidden=True)(command)
    files = ("basic-model-config", "resume-path", "config-path", "vocal-decoder-path", "inst-decoder-path")
    for name in (*files, "stage1-cache-mode", "stage2-cache-mode", "stage2-cache-size"):
        command = click.option(f"--{name}", hidden=True)(command)
    command = click.option("--cuda-idx", type=click.IntRange(0, 999), hidden=True)(command)
    return click.option("--max-new-tokens", type=click.IntRange(100, 15_000), hidden=True)(command)


@click.command(short_help="make a song from tags and lyrics")
@click.option("-g", "--genre", help="Tags: genre, instrument, mood, gender, timbre; text, a file or -.")
@click.option("--genre-txt", metavar="FILE", help="The same from a file; - reads stdin.")
@click.option("--lyrics", help="Lyrics with [section] lines; text, a file or -.")
@click.option("-l", "--lyrics-txt", metavar="FILE", help="The same from a file; - reads stdin.")
@click.option("--example", is_flag=True, help="Use the bundled tags and lyrics.")
@click.option(
    "--sections",
    "--run-n-segments",
    default="all",
    show_default=True,
    help="How many (2) or which (1,3-4) to generate.",
)
@click.option(
    "--segment-seconds", type=float, default=30.0, show_default=True, help="Longest a section may be."
)
@reference_options
@click.option("--voice", metavar="NAME", help="Style reference: a saved voice; see: yuegguf voice.")
@click.option(
    "--instrumental", is_flag=True, help="No vocal: it is forced to silence; lyrics may be left out."
)
@click.option("--a-cappella", is_flag=True, help="No backing: it is forced to silence.")
@sampling_options
@retries_option
@takes_option
@take_option
@folder_options
@click.option("--plan", "plan_only", is_flag=True, help="Say what it will take and why, and stop.")
@click.option("--dry-run", is_flag=True, help="--plan, with the sections, their fit, and the disk.")
@click.option("--queue", type=PATH, metavar="FILE", help="Generate the songs of a YAML file.")
@click.option("--stop-at", metavar="HH:MM", help="With --queue: stop at this time; run it again to go on.")
@draft_options
@preview_options
@model_options
@lora_option
@machine_options
@laptop_options
@output_options
@infer_options
@pass_output
def run(
    output: Console,
    /,
    plan_only: bool,
    dry_run: bool,
    queue: Path | None,
    stop_at: str | None,
    **options: Any,
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
        return _generate_all(output, queue, stop_at, options)
    from yuegguf.pipeline import takes

    job = job_of(output, options)
    if plan_only or dry_run:
        foretell(output, job, dry_run)
        return 0
    return finish(output, takes.start(job), job.models, job.compute)


def _generate_all(output: Console, queue: Path, stop_at: str | None, options: dict[str, Any]) -> int:
    named = [name for name in options if was_given(name)]
    if named:
        raise click.UsageError(
            f"--{named[0].replace('_', '-')} belongs into the queue's file, under defaults"
        )
    return generate_queue(output, click.get_current_context().command, queue, stop_at)


@click.command(short_help="go on with an interrupted song")
@click.argument("song", type=PATH, required=False)
@click.option(
    "-o",
    "--output-dir",
    type=PATH,
    default=Path("songs"),
    show_default=True,
    help="Where to look for the newest.",
)
@preview_options
@model_options
@machine_options
@laptop_options
@pass_output
def resume(output: Console, /, song: Path | None, output_dir: Path, **options: Any) -> int:
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
    if takes := library.of(folder):
        return go_on_together(output, takes, model_choice(options), compute_options(options))
    begun, preview = SongFolder.open(folder), preview_seconds(options)
    if begun.early.draft:
        output.draft_only()
    if preview and begun.state != "draft":
        output.warn("--preview has no effect: stage 1 is done")
    return go_on(output, api.resume, folder, options, preview_seconds=preview)


def go_on(
    output: Console, work: Callable[..., Song], folder: Path, options: dict[str, Any], **also: Any
) -> int:
    """Let `work` (api.resume or api.refine) go on with a folder on a command's machine; show the song."""
    changed = options["stage2_batch"] or options["ubatch"] or options["device"] != "auto"
    if changed or options["gpu_layers"] is not None:
        output.warn("another batch or device changes the last bits: the song may go on differently")
    with stop_on_signals(output) as stop:
        finished = work(
            folder,
            model_choice(options),
            compute=compute_options(options),
            progress=output.progress,
            stop=stop,
            **also,
        )
    return show(output, finished)
