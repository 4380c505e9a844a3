"""What `run` is asked, checked as far as that goes without a model's weights."""

from __future__ import annotations

from typing import Any

from yuegguf.cli._console import Console, minutes
from yuegguf.cli._early import preview_options_of
from yuegguf.cli._options import compute_options, has_gpu, model_choice
from yuegguf.cli._request import song_request
from yuegguf.files.atomic import free_disk
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.prepared import PreparedSong, prepare

WITHOUT_EFFECT = {
    "keep_intermediate": "tokens and codes are always kept",
    "keep_loaded": "one model is loaded at a time",
    "basic_model_config": "the converted codec knows its own configuration; see --codec",
    "resume_path": "in infer.py this names a codec checkpoint; see --codec",
    "config_path": "the converted codec knows its own configuration; see --codec",
    "stage1_cache_mode": "the cache type is --kv-type",
    "stage2_cache_mode": "the cache type is --kv-type",
    "stage2_cache_size": "see --stage2-batch",
    "stage1_use_exl2": "models are GGUF",
    "stage2_use_exl2": "models are GGUF",
    "vocal_decoder_path": "the upsamplers are part of the converted codec; see --codec",
    "inst_decoder_path": "the upsamplers are part of the converted codec; see --codec",
}
"""infer.py's flags that are accepted and do nothing here, with the reason that is said."""


def job_of(output: Console, options: dict[str, Any]) -> SongJob:
    """A job from `run`'s keywords; what had to be interpreted is said. Raises YueError, UsageError."""
    from yuegguf.models import resolve
    from yuegguf.pipeline import create

    _say_what_has_no_effect(output, options)
    preview, takes = preview_options_of(options), options.pop("takes")
    parent, name = options.pop("output_dir"), options.pop("name")
    choice, hardware = model_choice(options), compute_options(_with_cuda_index(output, options))
    song = prepare(song_request(options))
    for notice in song.notices:
        output.warn(notice)
    found = resolve.resolve(choice, song.request.reference is not None)
    if found.name == resolve.NANO and choice.stage1 is None:
        output.warn("no model is installed, so the bundled miniature 'nano' is used; it is not YuE's quality")
    for notice in create.reference_notices(song.request, choice, found):
        output.warn(notice)
    return SongJob(song, found, parent, name, hardware, preview, takes)


def foretell(output: Console, job: SongJob, whole: bool) -> None:
    """What a song will take here; the `whole` also says what it holds. Raises YueError."""
    from yuegguf.measure.forecast import forecast

    if job.takes > 1:
        output.warn(f"the draft is of all {job.takes} takes, which share its steps; the rest is of one")
    made = forecast(job)
    total = sum(made.seconds.values())
    sections, lines = _sections(job.song) if whole else ([], [])
    lines += [*made.reasons, f"memory       {made.plan.memory / 2**30:.1f} GiB"]
    if made.plan.gpu_memory:
        lines.append(f"GPU memory   {made.plan.gpu_memory / 2**30:.1f} GiB")
    free = free_disk(job.parent)
    if whole:
        lines.append(f"disk         {made.disk / 2**20:.0f} MiB of {free / 2**30:.1f} GiB free")
    lines += [f"{phase:<12} at most {minutes(value)}" for phase, value in made.seconds.items()]
    lines.append(f"in all       at most {minutes(total)} for {made.music:g} s of music")
    if whole and made.disk > free:
        output.warn("the disk is too full for this song")
    output.result({**made.to_json(), **({"sections": sections, "disk_free": free} if whole else {})}, lines)


def _sections(song: PreparedSong) -> tuple[list[dict[str, Any]], list[str]]:
    """Each section to generate: whether its words fit, as facts and as lines."""
    from yuegguf.request.syllables import section_fit

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


def _with_cuda_index(output: Console, options: dict[str, Any]) -> dict[str, Any]:
    """infer.py's --cuda_idx: that GPU if there is one, else the CPU, as there."""
    index = options.pop("cuda_idx")
    if index is not None and options["device"] == "auto":
        if has_gpu():
            options["device"] = f"cuda:{index}"
        else:
            output.warn("--cuda-idx has no effect: the installed llama.cpp has no GPU support")
    return options


def _say_what_has_no_effect(output: Console, options: dict[str, Any]) -> None:
    for name, reason in WITHOUT_EFFECT.items():
        if options.pop(name, None):
            output.warn(f"--{name.replace('_', '-')} has no effect: {reason}")
