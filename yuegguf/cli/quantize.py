"""`quantize` and `trim`: a GGUF becomes a smaller one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from yuegguf.cli._console import Console
from yuegguf.cli._options import PATH, force_option, pass_output, threads_option

WHOLE = 1e6
"""Seconds: all of a song."""

out_option = click.option("-o", "--output", "target", type=PATH, required=True, help="File to write.")


@click.command(short_help="F32, F16 or BF16 GGUF → a quantised one")
@click.argument("source", type=PATH)
@click.argument("out_type", metavar="TYPE")
@out_option
@force_option
@click.option(
    "--song",
    "songs",
    type=PATH,
    multiple=True,
    help="Song folder whose codes say what matters (repeatable): below five bits mostly nearer to SOURCE.",
)
@threads_option
@pass_output
def quantize(
    output: Console,
    /,
    source: Path,
    out_type: str,
    target: Path,
    force: bool,
    songs: tuple[Path, ...],
    threads: int | None,
) -> None:
    """Write SOURCE again as TYPE (Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, IQ4_XS, …), with llama.cpp's quantiser.

    Where a row does not divide into a type's blocks, as stage 2's FFN of 5,504, llama.cpp takes the next
    finer type for that tensor; the result says how many tensors have which.

    \b
    yuegguf quantize en-cot-BF16.gguf Q5_K_M -o en-cot-Q5_K_M.gguf
    yuegguf quantize s2-general-BF16.gguf Q4_0 --song songs/a --song songs/b -o s2-general-Q4_0.gguf
    """
    from yuegguf_convert.quantize import OWN_TYPES, check_type, quantize_gguf

    from yuegguf.errors import RequestError

    if songs and check_type(out_type) in OWN_TYPES:
        raise RequestError(f"{out_type} rounds all columns alike", "leave --song out")
    matters = _importance(output, source, songs, threads) if songs else None
    _report(
        output, quantize_gguf(source, target, out_type, threads=threads, overwrite=force, importance=matters)
    )


def _importance(
    output: Console, source: Path, songs: tuple[Path, ...], threads: int | None
) -> dict[str, NDArray[np.float32]]:
    """Importance of each column of SOURCE's tensors on these whole songs."""
    from yuegguf.measure import quality
    from yuegguf.measure.importance import importance_matrix
    from yuegguf.song.folder import SongFolder

    passages = [p for song in songs for p in quality.song_passages(SongFolder.open(song), source, WHOLE)]
    output.say(f"reading {sum(len(p.ids) for p in passages)} ids of the songs")
    return importance_matrix(source, passages, threads)


@click.command(short_help="GGUF → the same without the ids that its stage never uses")
@click.argument("source", type=PATH)
@out_option
@force_option
@click.option("--role", type=click.Choice(["auto", "stage1", "stage2"]), default="auto", show_default=True)
@pass_output
def trim(output: Console, /, source: Path, target: Path, force: bool, role: str) -> None:
    """Drop rows of SOURCE's vocabulary without re-quantising; works on other tools' GGUFs too.

    \b
    yuegguf trim YuE-s2-1B-general.Q8_0.gguf -o s2-general-Q8_0.gguf
    """
    from yuegguf_convert.trim import trim_gguf

    path = trim_gguf(source, target, role=role, overwrite=force, progress=output.progress)
    output.done()
    _report(output, path)


def _report(output: Console, path: Path) -> None:
    """The file, its size, and how many tensors have which type."""
    from yuegguf_convert.gguf_file import read_gguf

    types = Counter(tensor.kind.name for tensor in read_gguf(path).tensors.values())
    report = {"file": str(path), "bytes": path.stat().st_size, "tensors": dict(types.most_common())}
    said = ", ".join(f"{count} of {name}" for name, count in types.most_common())
    output.say(f"{path.stat().st_size / 2**20:.1f} MiB; tensors: {said}")
    output.result(report, [str(path)])
