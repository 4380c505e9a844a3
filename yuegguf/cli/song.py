"""`run` and `resume`."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._early import draft_options, early, preview_options, preview_seconds
from yuegguf.cli._options import (
    PATH,
    has_gpu,
    lora_option,
    machine,
    machine_options,
    model_choice,
    model_options,
    output_options,
    pass_output,
    read_text,
    song_output,
    text_or_file,
)
from yuegguf.cli._output import Output, minutes
from yuegguf.cli._signals import stop_on_signals
from yuegguf.errors import RequestError
from yuegguf.models import Models
from yuegguf.plan import Machine
from yuegguf.request import Reference, Song, SongRequest
from yuegguf.sampling import Sampling

WITHOUT_EFFECT = {
    "keep_intermediate": "tokens and codes are always kept",
    "keep_loaded": "one model is loaded at a time",
    "basic_model_config": "the converted codec knows its own configuration; see --codec",
    "resume_path": "in infer.py this names a codec checkpoint; see --codec",
    "config_path": "the converted codec knows its own configuration; see --codec",
    "stage1_cache_mode": "the cache type is --kv-type; quantised caches are not offered",
    "stage2_cache_mode": "the cache type is --kv-type; quantised caches are not offered",
    "stage2_cache_size": "see --stage2-batch",
    "stage1_use_exl2": "models are GGUF",
    "stage2_use_exl2": "models are GGUF",
    "vocal_decoder_path": "the upsamplers are part of the converted codec; see --codec",
    "inst_decoder_path": "the upsamplers are part of the converted codec; see --codec",
}
"""infer.py's flags that are accepted and do nothing here, with the reason that is said."""


def infer_options(command: Any) -> Any:
    """infer.py's flags that have another shape here."""
    flags = ("--keep-intermediate", "--use-audio-prompt", "--use-dual-tracks-prompt")
    for flag in (*flags, "--stage1-use-exl2", "--stage2-use-exl2"):
        command = click.option(flag, is_flag=True, hidden=True)(command)
    command = click.option("--keep-loaded", "--disable-offload-model", is_flag=True, hidden=True)(command)
    files = ("basic-model-config", "resume-path", "config-path", "vocal-decoder-path", "inst-decoder-path")
    for name in (*files, "stage1-cache-mode", "stage2-cache-mode", "stage2-cache-size"):
        command = click.option(f"--{name}", hidden=True)(command)
    command = click.option("--cuda-idx", type=int, hidden=True)(command)
    return click.option("--max-new-tokens", type=click.IntRange(100), hidden=True)(command)


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
    help="How many (2) or which (1,3-4) to sing.",
)
@click.option(
    "--segment-seconds", type=float, default=30.0, show_default=True, help="Longest a section may be."
)
@click.option("--ref", "--audio-prompt-path", metavar="FILE", help="Style reference: one recording.")
@click.option("--ref-vocal", "--vocal-track-prompt-path", metavar="FILE", help="Style reference: its vocal …")
@click.option("--ref-inst", "--instrumental-track-prompt-path", metavar="FILE", help="… and its backing.")
@click.option("--ref-start", "--prompt-start-time", type=float, default=0.0, show_default=True, metavar="SEC")
@click.option("--ref-end", "--prompt-end-time", type=float, default=30.0, show_default=True, metavar="SEC")
@click.option(
    "--seed",
    type=int,
    help="Same seed, files, machine, threads and --stage2-batch give the same song [default: random].",
)
@click.option("--cfg", metavar="FIRST[,REST]", default="1.5,1.2", show_default=True, help="Guidance scale.")
@click.option(
    "--no-cfg", "--stage1-no-guidance", is_flag=True, help="No guidance: faster, follows the prompt less."
)
@click.option("--top-p", type=float, default=0.93, show_default=True)
@click.option("--top-k", type=int, default=50, show_default=True)
@click.option("--temperature", type=float, default=1.0, show_default=True)
@click.option("--repetition-penalty", type=float, default=1.1, show_default=True)
@click.option(
    "-o", "--output-dir", type=PATH, default=Path("songs"), show_default=True, help="A folder is made inside."
)
@click.option("--name", help="Folder and title [default: from the tags].")
@click.option("--plan", "plan_only", is_flag=True, help="Say what it will take and why, and stop.")
@draft_options
@preview_options
@model_options
@lora_option
@machine_options
@output_options
@infer_options
@pass_output
def run(output: Output, /, output_dir: Path, name: str | None, plan_only: bool, **options: Any) -> None:
    """Sing lyrics: a folder with mix, vocals and instrumental.

    \b
    yuegguf run --example
    yuegguf run --example --draft --preview
    yuegguf run -g "inspiring female pop airy vocal" -l lyrics.txt --seed 7
    yuegguf run --genre_txt genre.txt --lyrics_txt lyrics.txt --run_n_segments 2
    """
    from yuegguf import models, runtime

    _say_what_has_no_effect(output, options)
    heard = early(options)
    choice, hardware = model_choice(options), machine(_with_cuda_index(output, options))
    request = song_request(options)
    for notice in request.parsed().notices:
        output.warn(notice)
    found = models.resolve(choice, request.reference is not None)
    if found.name == models.NANO and choice.stage1 is None:
        output.warn("no model is installed, so the bundled miniature 'nano' sings; it is not YuE's quality")
    if request.reference and _mode(found.name) == "cot":
        output.warn(f"{found.name} was not trained to take up a reference; an -icl model is")
    if plan_only:
        _show_plan(output, request, found, hardware)
        return
    folder = runtime.start(request, found, output_dir, name, hardware, heard)
    sections = _count(len(request.parsed().sections), "section")
    voice = " + ".join([found.name, *map(str, found.loras)])
    output.say(f"{sections}, seed {request.seed}, {voice} → {folder.path}")
    if heard.preview_seconds:
        output.say(f"growing while stage 1 sings: {folder.path / 'preview.wav'}")
    if heard.draft:
        output.draft_only()
    with stop_on_signals() as stop:
        _show(output, runtime.go_on(folder, found, hardware, output.progress, stop))


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
@pass_output
def resume(output: Output, /, song: Path | None, output_dir: Path, **options: Any) -> None:
    """Go on with SONG at the exact token; without SONG, with the newest interrupted one.

    A song of `run --draft` stops after its draft again; `refine` takes it further. A preview goes on if
    there was one.

    \b
    yuegguf resume
    yuegguf resume songs/inspiring-female-pop-1a2b3c
    """
    from yuegguf import runtime
    from yuegguf.song import SongFolder, newest_interrupted

    folder = song or newest_interrupted(output_dir)
    begun, preview = SongFolder.open(folder), preview_seconds(options)
    if begun.early.draft:
        output.draft_only()
    if preview and begun.state != "draft":
        output.warn("--preview has no effect: stage 1 is done")
    go_on(output, runtime.resume, folder, options, preview_seconds=preview)


def go_on(
    output: Output, work: Callable[..., Song], folder: Path, options: dict[str, Any], **also: Any
) -> None:
    """Let `work` (runtime.resume or refine) go on with a folder on a command's machine; show the song."""
    changed = options["stage2_batch"] or options["ubatch"] or options["device"] != "auto"
    if changed or options["gpu_layers"] is not None:
        output.warn("another batch or device changes the last bits: the song may go on differently")
    with stop_on_signals() as stop:
        finished = work(
            folder,
            model_choice(options),
            machine_options=machine(options),
            progress=output.progress,
            stop=stop,
            **also,
        )
    _show(output, finished)


def song_request(options: dict[str, Any]) -> SongRequest:
    """A request from `run`'s keywords. Raises RequestError."""
    genre, lyrics = _texts(options)
    seconds = options["max_new_tokens"] / 100 if options["max_new_tokens"] else options["segment_seconds"]
    seed = secrets.randbelow(2**32) if options["seed"] is None else options["seed"]
    first, rest = _guidance(options["cfg"], options["no_cfg"])
    sampling = Sampling(
        first,
        rest,
        options["repetition_penalty"],
        options["temperature"],
        options["top_k"],
        options["top_p"],
    )
    output = song_output(options)
    return SongRequest(
        genre, lyrics, str(options["sections"]), seconds, seed, sampling, _reference(options), output
    )


def _texts(options: dict[str, Any]) -> tuple[str, str]:
    """Tags and lyrics from whichever option names them. Raises RequestError."""
    named = [n for n in ("genre", "genre_txt", "lyrics", "lyrics_txt") if options[n] is not None]
    if options["example"] and named:
        raise click.UsageError(f"--example brings its own tags and lyrics; leave out --{named[0]}")
    if [options[n] for n in named].count("-") > 1:
        raise click.UsageError("only one of genre and lyrics can come from stdin")
    if options["example"]:
        from importlib import resources

        example = resources.files("yuegguf") / "data" / "example"
        return (example / "genre.txt").read_text("utf-8"), (example / "lyrics.txt").read_text("utf-8")
    texts = []
    for what, hint in (("genre", '-g "female pop"'), ("lyrics", "-l lyrics.txt")):
        text, file = options[what], options[f"{what}_txt"]
        if (text is None) == (file is None):
            raise click.UsageError(f"pass the {what} once: {hint} (or --example)")
        texts.append(read_text(file, what) if file is not None else text_or_file(text, what))
    return texts[0], texts[1]


def _reference(options: dict[str, Any]) -> Reference | None:
    mix, vocal, inst = options["ref"], options["ref_vocal"], options["ref_inst"]
    wanted = options["use_audio_prompt"] or options["use_dual_tracks_prompt"]
    if not (mix or vocal or inst):
        if wanted:
            raise RequestError(
                "a reference was asked for but not named", "pass --ref, or --ref-vocal and --ref-inst"
            )
        return None
    if options["use_dual_tracks_prompt"]:  # infer.py prefers the two tracks when both are given
        mix = None
    for path in (mix, vocal, inst):
        if path and not os.path.isfile(path):
            raise RequestError(f"there is no audio file {path}", "check the name")
    return Reference(mix, vocal, inst, options["ref_start"], options["ref_end"])


def _guidance(text: str, off: bool) -> tuple[float, float]:
    if off:
        return 1.0, 1.0
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise click.BadParameter(f"{text!r} is not FIRST[,REST], such as 1.5,1.2", param_hint="--cfg")
    return values[0], values[-1]


def _with_cuda_index(output: Output, options: dict[str, Any]) -> dict[str, Any]:
    """infer.py's --cuda_idx: that GPU if there is one, else the CPU, as there."""
    index = options.pop("cuda_idx")
    if index is not None and options["device"] == "auto":
        if has_gpu():
            options["device"] = f"cuda:{index}"
        else:
            output.warn("--cuda-idx has no effect: the installed llama.cpp has no GPU support")
    return options


def _say_what_has_no_effect(output: Output, options: dict[str, Any]) -> None:
    for name, reason in WITHOUT_EFFECT.items():
        if options.pop(name, None):
            output.warn(f"--{name.replace('_', '-')} has no effect: {reason}")


def _mode(name: str) -> str:
    """ "cot" or "icl", of a model that is named like a published one; else empty."""
    from yuegguf import registry

    return next((entry.mode for entry in registry.load() if name.startswith(f"{entry.id}-")), "")


def _show_plan(output: Output, request: SongRequest, found: Models, hardware: Machine) -> None:
    from yuegguf.forecast import forecast

    made = forecast(request, found, hardware)
    total = sum(made.seconds.values())
    lines = [*made.reasons, f"memory       {made.plan.memory / 2**30:.1f} GiB"]
    if made.plan.gpu_memory:
        lines.append(f"GPU memory   {made.plan.gpu_memory / 2**30:.1f} GiB")
    lines += [f"{phase:<12} at most {minutes(value)}" for phase, value in made.seconds.items()]
    lines.append(f"in all       at most {minutes(total)} for {made.music:g} s of music")
    output.result(made.to_json(), lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _show(output: Output, song: Song) -> None:
    output.done()
    output.say(f"{song.seconds:.2f} s of music, seed {song.seed}")
    if song.draft:
        output.say(f"this is the draft; go on with: yuegguf refine {shlex.quote(str(song.folder))}")
    output.result(song.to_json(), [str(path) for path in song.files])
