"""`bench quality`: how near one model file is to another on a song."""

from __future__ import annotations

from pathlib import Path

import click

from yuegguf.cli._console import Console
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import PATH, pass_output, threads_option
from yuegguf.errors import RequestError
from yuegguf.planning.cost import KV_BYTES


@click.command(short_help="compare two model files on a song's codes")
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--song", type=PATH, help="Song folder whose codes and prompt are read.")
@click.option("--codes", type=PATH, help="Folder with the official track pair instead (stage 2 alone).")
@click.option(
    "--seconds",
    type=Number(1),
    default=12.0,
    show_default=True,
    help="Of the song, from its start.",
)
@click.option(
    "--kv-type",
    type=click.Choice(sorted(KV_BYTES), case_sensitive=False),
    default="f16",
    show_default=True,
    help="Number type of SECOND's cache; that of FIRST is f16.",
)
@threads_option
@pass_output
def quality(
    output: Console,
    /,
    first: Path,
    second: Path,
    song: Path | None,
    codes: Path | None,
    seconds: float,
    kv_type: str,
    threads: int | None,
) -> None:
    """Let FIRST and SECOND read the same song and compare every draw.

    Both are GGUFs of the same stage and vocabulary; FIRST is the finer one. Shown by codebook: the
    Kullback-Leibler divergence of SECOND from FIRST, best choices in common, and both perplexities. A file
    beside itself with another --kv-type shows what that cache costs.

    \b
    yuegguf bench quality en-cot-F16.gguf en-cot-Q4_K_M.gguf --song songs/inspiring-female-pop-1a2b3c
    yuegguf bench quality s2-general-F16.gguf s2-general-Q4_0.gguf --codes official/stage2
    yuegguf bench quality en-cot-Q4_K_M.gguf en-cot-Q4_K_M.gguf --kv-type q8_0 --song songs/a
    """
    from yuegguf.exchange.npy_codes import read_codes
    from yuegguf.measure import quality as measured
    from yuegguf.song.folder import SongFolder

    if song is not None and codes is None:
        passages = measured.song_passages(SongFolder.open(song), first, seconds)
    elif codes is not None and song is None:
        passages = measured.codes_passages(read_codes([codes]), first, seconds)
    else:
        raise RequestError("a song's codes are needed", "pass --song FOLDER or --codes FOLDER")
    parts = measured.compare_models(first, second, passages, threads, kv_type)
    whole = measured.overall_agreement(parts)
    books = {str(k): part.to_json() for k, part in parts.items()}
    names = {"first": str(first), "second": str(second), "kv_type": kv_type}
    report = {**names, **whole.to_json(), "codebooks": books}
    lines = [
        f"{'codebook':<9} {'draws':>7} {'KL, nats':>9} {'same best':>9} {'perplexity':>11} {'second':>8}"
    ]
    for name, part in [*((str(k), part) for k, part in parts.items()), ("all", whole)]:
        lines.append(
            f"{name:<9} {part.predictions:>7} {part.kl:>9.5f} {part.same_argmax:>9.1%} "
            f"{part.perplexity:>11.2f} {part.perplexity_second:>8.2f}"
        )
    output.result(report, lines)
