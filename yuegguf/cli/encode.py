"""`encode` and `decode`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._audio_options import audio_options
from yuegguf.cli._console import Console
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import (
    PATH,
    codec_option,
    memory_option,
    models_root,
    pass_output,
    threads_option,
)
from yuegguf.errors import RequestError
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.song_request import Output as SongOutput

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice


@click.command(short_help="codes → audio: another mix or format in seconds")
@click.argument("codes", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output-dir", type=PATH, help="Where to write [default: beside the codes].")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@threads_option
@codec_option
@audio_options
@pass_output
def decode(
    output: Console,
    /,
    codes: tuple[Path, ...],
    output_dir: Path | None,
    force: bool,
    threads: int | None,
    codec: Path | None,
    audio: SongOutput,
) -> None:
    """Make audio from CODES: a song folder, a folder with *vtrack.npy and *itrack.npy, those two files,
    or one track's file.

    \b
    yuegguf decode songs/my-song --mix vocos --format flac -o remix
    yuegguf decode output/stage2
    yuegguf decode cot_vtrack.npy cot_itrack.npy
    yuegguf decode vocal.npy
    """
    from yuegguf.api import files

    made = files.decode(
        codes,
        output_dir,
        codec_choice(codec),
        audio,
        compute=ComputeOptions(threads=threads),
        force=force,
        progress=output.progress,
    )
    output.done()
    names = [str(file) for file in made.files]
    output.result({"files": names, "seconds": made.seconds}, names)


@click.command(short_help="audio → codes, as .npy files like YuE's")
@click.argument("files", type=PATH, nargs=-1, required=True)
@click.option(
    "--codebooks", type=click.IntRange(1, 8), default=8, show_default=True, help="Codebooks to keep."
)
@click.option("--start", type=Number(0, infinite=True), default=0.0, show_default=True, metavar="SEC")
@click.option("--end", type=Number(0, infinite=True), metavar="SEC", help="[default: the end]")
@click.option("-o", "--output-dir", type=PATH, help="Where to write [default: beside each file].")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option(
    "--jsonl", type=PATH, help="Write finetuning data: one folder of songs → this file, and codes/ beside it."
)
@threads_option
@memory_option
@codec_option
@pass_output
def encode(
    output: Console,
    /,
    files: tuple[Path, ...],
    codebooks: int,
    start: float,
    end: float | None,
    output_dir: Path | None,
    force: bool,
    jsonl: Path | None,
    threads: int | None,
    max_memory: int | None,
    codec: Path | None,
) -> None:
    """Encode audio FILES to codes [codebooks, frames], 50 frames a second.

    A recording that does not fit into the memory whole is encoded in parts, and a note says so.

    With --jsonl, FILES is one folder with a folder for each song: vocals.*, instrumental.*, lyrics.lrc with
    timed lines and labels, tags.txt.

    \b
    yuegguf encode vocal.wav
    yuegguf encode song.mp3 --codebooks 1 --start 10 --end 40 -o codes
    yuegguf encode songs-of-mine --jsonl finetune/train.jsonl
    """
    from yuegguf.api import files as api
    from yuegguf.exchange.encode_files import EncodeOptions

    choice, compute = codec_choice(codec), ComputeOptions(threads=threads, max_memory=max_memory)
    progress = output.progress
    if jsonl is not None:
        if len(files) != 1:
            raise RequestError("--jsonl takes one folder of songs", "pass the folder that holds theirs")
        data = api.encode_songs(files[0], jsonl, choice, compute=compute, force=force, progress=progress)
        output.done()
        output.result({"file": str(jsonl), "songs": data.songs, "seconds": data.seconds}, [str(jsonl)])
        return
    options = EncodeOptions(codebooks, start, end)
    encoded = api.encode(files, output_dir, choice, options, compute=compute, force=force, progress=progress)
    output.done()
    facts = [{"file": str(each.file), "codebooks": each.codebooks, "frames": each.frames} for each in encoded]
    output.result({"files": facts}, [str(each.file) for each in encoded])


def codec_choice(codec: Path | None) -> ModelChoice:
    """A model choice that names the codec alone."""
    from yuegguf.models.resolve import ModelChoice

    return ModelChoice(codec=codec, models_dir=models_root())
