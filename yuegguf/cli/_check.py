"""`models check`: whether a model file gives what a right one sampled."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, models_root, pass_output, threads_option, was_given
from yuegguf.errors import DamagedFile, ModelNotFound, RequestError
from yuegguf.models import registry
from yuegguf.models.resolve import nano_models

if TYPE_CHECKING:
    from yuegguf.measure.codec_check import CodecReport
    from yuegguf.measure.model_check import ModelReport

VERDICTS = {
    "right": "it is right",
    "doubtful": "doubtful: a type of few bits, or a conversion that is not quite right",
    "wrong": "it is wrong: convert it or pull it again, and check its source",
    "moved": "doubtful: another codec, or a decoder that begins some samples earlier or later",
    "unknown": "no verdict, since the samples are another model's: the figures say how near the two are",
}
RECORDING = "https://github.com/multimodal-art-projection/YuE/blob/YuE-v1/prompt_egs/pop.00001.mp3"
SONG_FRAMES = 600
"""Frames of a song that are scored: two chunks, as many as are shipped."""


@click.command("check", short_help="whether an installed model is right, by codes that a right one sampled")
@click.argument("name", metavar="NAME[:TYPE]")
@click.option(
    "--sections",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="Sections of the samples to score: some 3,500 ids each (stage 1).",
)
@click.option("--song", type=PATH, help="Score the first 12 s of this song of your own instead (stage 2).")
@click.option("--audio", type=PATH, help=f"The recording to encode (codec): {RECORDING}.")
@threads_option
@pass_output
def check(
    output: Console,
    /,
    name: str,
    sections: int,
    song: Path | None,
    audio: Path | None,
    threads: int | None,
) -> None:
    """Let NAME, or a .gguf file, predict codes that the authors' own models sampled.

    Stage 1 reads a section of a song that their run of YuE-s1-7B-anneal-en-cot logged, with the guidance and
    the penalty of that run: nearly all samples lie within what a right conversion would sample, few within
    what a wrong one would. Stage 2 reads 12 s of a song made with YuE-s2-1B-general. `nano` reads its own
    codes. Exit code 7 when a file is wrong.

    \b
    yuegguf models check en-cot:Q4_K_M
    yuegguf models check s2-general --song songs/my-song
    yuegguf models check xcodec --audio pop.00001.mp3
    """
    from yuegguf.measure.scoring_engine import stage_of

    root = models_root()
    codec = root / "xcodec" if name == "xcodec" else Path(name)
    if name == "xcodec" or (codec / "encoder.onnx").is_file():
        if song or was_given("sections"):
            raise RequestError(f"--song and --sections do nothing for {name}", "leave them out")
        reports = [_check_codec(output, codec, audio, threads)]
    else:
        if audio:
            raise RequestError(f"--audio does nothing for {name}", "leave it out")
        paths = _files(name, root)
        if was_given("sections") and all(stage_of(path) == "stage2" for path in paths):
            raise RequestError(f"--sections does nothing for {name}, which is stage 2", "leave it out")
        reports = [_check_file(output, path, name, sections, song=song, threads=threads) for path in paths]
    output.done()
    wrong = any(facts["verdict"] == "wrong" for facts, _ in reports)
    lines = [line for _, lines in reports for line in lines]
    output.result({"files": [facts for facts, _ in reports], "ok": not wrong}, lines)
    if wrong:
        click.get_current_context().exit(DamagedFile.exit_code)


def _files(name: str, root: Path) -> list[Path]:
    if name.lower() == registry.NANO:
        return [nano_models().stage1, nano_models().stage2]
    given, _, quant = name.partition(":")
    return [registry.find_gguf(name if name.endswith(".gguf") else given, quant or None, root)]


def _check_file(
    output: Console, path: Path, name: str, sections: int, *, song: Path | None, threads: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Facts and lines of one language model."""
    from yuegguf.measure import model_check, samples, scoring_engine
    from yuegguf.song.folder import SongFolder

    stage, nano = scoring_engine.stage_of(path), model_check.is_nano(path)
    if stage == "stage2":
        shipped = samples.stage2_samples("nano" if nano else "s2-general")
        codes = SongFolder.open(song).load_stage2()[:, :, :SONG_FRAMES] if song else shipped.array
        source = str(song) if song else shipped.source
        report = model_check.check_stage2(path, codes, threads=threads, progress=output.progress)
        return _described(report, source, "its own choices too", report.verdict)
    if song:
        raise RequestError(f"--song does nothing for {path.name}, which is stage 1", "leave it out")
    sampled = samples.stage1_samples("nano" if nano else "en-cot")
    report = model_check.check_stage1(
        path, sampled, sections=sections, threads=threads, progress=output.progress
    )
    within = "within what it would sample (top-k 50, top-p 0.93)"
    other = not nano and _model_of(path) not in (None, sampled.model)
    return _described(report, sampled.source, within, "unknown" if other else report.verdict)


def _model_of(path: Path) -> str | None:
    """Id of the published model that a file's name begins with."""
    name = path.name.lower()
    entries = [entry for entry in registry.model_entries() if entry.role == "stage1"]
    named = [e.id for e in entries if name.startswith((f"{e.id}-", e.source.rpartition("/")[2].lower()))]
    return named[0] if named else None


def _described(
    report: ModelReport, source: str, within: str, verdict: str
) -> tuple[dict[str, Any], list[str]]:
    figures = report.likelihood
    deficit = round(figures.deficit, 2) + 0.0  # never "-0.00"
    lines = [
        f"{report.file.name}: {VERDICTS[verdict]}",
        f"  {figures.within:.1%} of {figures.samples} samples are {within}",
        f"  mean log-probability {figures.mean_log_probability:.2f} nats (perplexity "
        f"{figures.perplexity:.1f}), {deficit:.2f} below what it expects of its own samples",
        f"  samples: {source}",
    ]
    return {**report.to_json(), "verdict": verdict, "source": source}, lines


def _check_codec(
    output: Console, folder: Path, audio: Path | None, threads: int | None
) -> tuple[dict[str, Any], list[str]]:
    """Facts and lines of the codec."""
    import numpy as np

    from yuegguf.measure.codec_check import compare_codes
    from yuegguf.measure.samples import codec_samples
    from yuegguf.pipeline.engines import encoding_memory, open_codec
    from yuegguf.request.song_request import Reference
    from yuegguf.song.encoding import reference_codes

    if not (folder / "encoder.onnx").is_file():
        raise ModelNotFound(f"there is no codec in {folder}", "get it with: yuegguf pull xcodec")
    if audio is None:
        raise RequestError("the codec is checked on a recording", f"download {RECORDING}, and pass --audio")
    samples, memory = codec_samples(), encoding_memory(folder)
    with closing(open_codec(folder, threads)) as codec:
        codes = reference_codes(Reference(str(audio)), codec, memory, output.progress)
    report: CodecReport = compare_codes(codes, np.array(samples.codes))
    moved = f", {report.shift} frames later" if report.shift else ""
    lines = [
        f"{folder.name}: {VERDICTS['right' if report.verdict == 'right' else 'moved']}",
        f"  {report.same:.1%} of the {report.frames} codes of codebook 0 are the authors'{moved}",
        f"  samples: {samples.source}",
    ]
    return {"file": str(folder), **report.to_json(), "source": samples.source}, lines
