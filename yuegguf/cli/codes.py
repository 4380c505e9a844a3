"""`encode` and `decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from yuegguf.cli._options import PATH, codec_option, output_options, pass_output, song_output
from yuegguf.cli._output import Output
from yuegguf.errors import RequestError


@click.command(short_help="codes → audio: another mix or format in seconds")
@click.argument("codes", type=PATH, nargs=-1, required=True)
@click.option("-o", "--output-dir", type=PATH, help="Where to write [default: beside the codes].")
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="CPU threads [default: physical cores].")
@codec_option
@output_options
@pass_output
def decode(
    output: Output,
    /,
    codes: tuple[Path, ...],
    output_dir: Path | None,
    threads: int | None,
    codec: Path | None,
    **options: Any,
) -> None:
    """Make audio from CODES: a song folder, a folder with *vtrack.npy and *itrack.npy, or those two files.

    \b
    yuegguf decode songs/my-song --mix vocos --format flac -o remix
    yuegguf decode output/stage2
    yuegguf decode cot_vtrack.npy cot_itrack.npy
    """
    from contextlib import closing

    from yuegguf import pipeline, runtime
    from yuegguf.codes import read_codes
    from yuegguf.files import storage_errors

    wanted = song_output(options)
    both = read_codes(codes)
    target = output_dir or (codes[0] if codes[0].is_dir() else codes[0].parent)
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    title = codes[0].stem
    with closing(runtime.open_codec(runtime.resolve_codec(codec_choice(codec)), threads)) as opened:
        files = pipeline.write_song(both, opened, wanted, target, title, output.progress)
    output.done()
    output.result({"files": [str(f) for f in files], "seconds": both.shape[2] / 50}, [str(f) for f in files])


@click.command(short_help="audio → codes, as .npy files like YuE's")
@click.argument("files", type=PATH, nargs=-1, required=True)
@click.option(
    "--codebooks", type=click.IntRange(1, 8), default=8, show_default=True, help="Codebooks to keep."
)
@click.option("--start", type=click.FloatRange(0), default=0.0, show_default=True, metavar="SEC")
@click.option("--end", type=click.FloatRange(0), metavar="SEC", help="[default: the end]")
@click.option("-o", "--output-dir", type=PATH, help="Where to write [default: beside each file].")
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="CPU threads [default: physical cores].")
@codec_option
@pass_output
def encode(
    output: Output,
    /,
    files: tuple[Path, ...],
    codebooks: int,
    start: float,
    end: float | None,
    output_dir: Path | None,
    threads: int | None,
    codec: Path | None,
) -> None:
    """Encode audio FILES to codes [codebooks, frames], 50 frames a second.

    \b
    yuegguf encode vocal.wav
    yuegguf encode song.mp3 --codebooks 1 --start 10 --end 40 -o codes
    """
    from contextlib import closing

    from yuegguf import pipeline, runtime
    from yuegguf.codes import write_track
    from yuegguf.files import storage_errors

    if end is not None and end <= start:
        raise RequestError(f"the window {start:g}-{end:g} s is empty", "pass --start < --end")
    window = slice(round(50 * start), None if end is None else round(50 * end))
    written = []
    with closing(runtime.open_codec(runtime.resolve_codec(codec_choice(codec)), threads)) as opened:
        for file in files:
            codes = pipeline.encode_file(file, opened)[:codebooks, window]
            target = (output_dir or file.parent) / f"{file.stem}.npy"
            with storage_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            write_track(target, codes)
            written.append({"file": str(target), "codebooks": codebooks, "frames": codes.shape[1]})
    output.result({"files": written}, [str(entry["file"]) for entry in written])


def codec_choice(codec: Path | None) -> Any:
    """A model choice that names the codec alone."""
    from yuegguf.runtime import ModelChoice

    return ModelChoice(
        codec=codec, models_dir=click.get_current_context().find_root().params.get("models_dir")
    )
