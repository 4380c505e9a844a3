"""`import` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._audio_options import audio_options
from yuegguf.cli._completion import SONG
from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._options import (
    PATH,
    Destination,
    destination_options,
    model_options,
    pass_output,
    starts_option,
)
from yuegguf.cli._texts import text_or_file
from yuegguf.errors import quoted
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.song_request import Output as SongOutput

if TYPE_CHECKING:
    from yuegguf.exchange.importing import StemFiles
    from yuegguf.models.resolve import ModelChoice


@click.command("import", short_help="another tool's song, or two stems → a song folder")
@click.argument("source", type=PATH, nargs=-1)
@click.option("--vocal", type=PATH, help="A recording's vocal …")
@click.option("--inst", type=PATH, help="… and its backing.")
@click.option(
    "--start", type=float, default=0.0, show_default=True, metavar="SEC", help="Where to begin in the stems."
)
@click.option("--take", type=float, metavar="SEC", help="How much of them to take [default: the rest].")
@click.option("-g", "--genre", "--genre-txt", "genre", help="Tags, if the source has none: text, file or -.")
@click.option("-l", "--lyrics", "--lyrics-txt", "lyrics", help="Lyrics, likewise.")
@starts_option
@destination_options
@model_options
@compute_options
@audio_options
@pass_output
def import_song(
    output: Console,
    /,
    source: tuple[Path, ...],
    vocal: Path | None,
    inst: Path | None,
    start: float,
    take: float | None,
    genre: str | None,
    lyrics: str | None,
    starts: tuple[float, ...],
    destination: Destination,
    choice: ModelChoice,
    compute: ComputeOptions,
    audio: SongOutput,
) -> None:
    """Make a song folder of SOURCE: a YuE-UI project (.json), YuE's *_vtrack.npy and *_itrack.npy of either
    stage (two files or their folder); or of two stems. `resume` renders it.

    \b
    yuegguf import song_x1.json
    yuegguf import output -l lyrics.txt --at 28.5,57
    yuegguf import --vocal vocal.wav --inst backing.wav --take 20 -g "female pop" -l lyrics.txt
    """
    from yuegguf.api import files
    from yuegguf.exchange.imported import ImportFacts

    facts = ImportFacts(
        text_or_file(genre, "genre") if genre is not None else None,
        text_or_file(lyrics, "lyrics") if lyrics is not None else None,
        starts,
        audio,
    )
    imported = files.import_song(
        _stems(source, vocal, inst, start, take) or source,
        choice,
        destination.output_dir,
        facts,
        name=destination.name,
        compute=compute,
        progress=output.progress,
    )
    output.done()
    output.say(f"render it with: yuegguf resume {quoted(imported.folder)}")
    folder = str(imported.folder)
    result = {"folder": folder, "state": imported.state, "seconds": imported.seconds}
    output.result({**result, "frames": list(imported.frames)}, [folder])


def _stems(
    source: tuple[Path, ...], vocal: Path | None, inst: Path | None, start: float, take: float | None
) -> StemFiles | None:
    """The two stems; None when there is a source. Raises UsageError for neither, both and one stem."""
    from yuegguf.exchange.importing import StemFiles

    if bool(source) == bool(vocal or inst):
        raise click.UsageError("pass a project, a pair of .npy files, or --vocal and --inst")
    if source:
        return None
    if vocal is None or inst is None:
        raise click.UsageError("pass both stems: --vocal FILE --inst FILE")
    return StemFiles(vocal, inst, start, take)


@click.command(short_help="a song folder → YuE's .npy pair, or a YuE-UI project")
@click.argument("song", type=SONG)
@click.option("--yue-ui", is_flag=True, help="Write a project for YuE-UI instead.")
@click.option("-o", "--output-dir", type=PATH, help="Where to write [default: SONG/export].")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@pass_output
def export(output: Console, /, song: Path, yue_ui: bool, output_dir: Path | None, force: bool) -> None:
    """Write the codes of SONG as infer.py does: stage1/ and, once it is refined, stage2/ with a vtrack and an
    itrack each. With --yue-ui, write a project that YuE-UI opens.

    \b
    yuegguf export songs/my-song
    yuegguf export songs/my-song --yue-ui -o projects
    """
    from yuegguf.api import files

    written = [
        str(path)
        for path in files.export_song(song, output_dir, yue_ui=yue_ui, force=force, progress=output.progress)
    ]
    output.result({"files": written}, written)
