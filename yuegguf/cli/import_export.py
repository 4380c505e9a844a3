"""`import` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._options import (
    PATH,
    Destination,
    audio_options,
    destination_options,
    model_options,
    pass_output,
)
from yuegguf.cli._texts import text_or_file
from yuegguf.codec.protocol import CODEBOOKS, FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.exchange.imported import ImportedSong, Overrides, create_imported_song
from yuegguf.models.resolve import Models
from yuegguf.pipeline import engines
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import Output as SongOutput

if TYPE_CHECKING:
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
@click.option("--at", metavar="SEC,…", default="", help="Where the second and later sections begin.")
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
    at: str,
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
    from yuegguf.models import resolve

    stems = _stems(source, vocal, inst)
    known = Overrides(
        text_or_file(genre, "genre") if genre is not None else None,
        text_or_file(lyrics, "lyrics") if lyrics is not None else None,
        _starts(at),
        audio,
    )
    found = resolve.resolve(choice)
    window = (start, take)
    material = encoded(output, stems, window, known, found, compute) if stems else _read(source, known)
    for notice in material.notices:
        output.warn(notice)
    place = destination
    folder = create_imported_song(
        material, SongJob(prepare(material.request), found, place.output_dir, place.name, compute)
    )
    output.say(f"render it with: yuegguf resume {folder.path}")
    seconds = material.codes0.shape[1] / FRAME_RATE
    facts = {"folder": str(folder.path), "state": folder.state, "seconds": seconds}
    output.result({**facts, "frames": list(material.frames)}, [str(folder.path)])


def _stems(source: tuple[Path, ...], vocal: Path | None, inst: Path | None) -> list[Path]:
    """The two stems, or nothing when there is a source. Raises click.UsageError for neither and both."""
    stems = [path for path in (vocal, inst) if path is not None]
    if bool(source) == bool(stems):
        raise click.UsageError("pass a project, a pair of .npy files, or --vocal and --inst")
    if len(stems) == 1:
        raise click.UsageError("pass both stems: --vocal FILE --inst FILE")
    return stems


def _starts(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list such as 28.5,57", param_hint="--at") from error


def _read(source: tuple[Path, ...], known: Overrides) -> ImportedSong:
    from yuegguf.exchange import convert

    if (source[0] / "song.json").is_file():
        raise RequestError(f"{source[0]} is a song folder already", f"go on with: yuegguf resume {source[0]}")
    if len(source) == 1 and source[0].suffix != ".npy" and not source[0].is_dir():
        return convert.from_project(source[0], known)
    return convert.from_pair(source, known)


def encoded(
    output: Console,
    stems: list[Path],
    window: tuple[float, float | None],
    known: Overrides,
    found: Models,
    hardware: ComputeOptions,
) -> ImportedSong:
    """Material of two stems, encoded as references are: whole where the memory allows. Raises YueError."""
    from contextlib import closing

    import numpy as np

    from yuegguf.exchange import convert
    from yuegguf.pipeline import preflight
    from yuegguf.song import encoding

    taken = convert.stem_window(*window, min(preflight.recording_frames(file) for file in stems))
    start, like_it = taken.start / FRAME_RATE, np.zeros((2, CODEBOOKS, taken.stop - taken.start), np.int16)
    convert.from_stems(like_it, stems, start, known)  # what is wrong is said before minutes of encoding
    room = engines.encoding_memory(found.codec, hardware.max_memory)
    with closing(engines.open_codec(found.codec, hardware.threads)) as codec:
        codes = encoding.encode_stems((stems[0], stems[1]), codec, room, taken, output.progress)
    output.done()
    return convert.from_stems(codes, stems, start, known)


@click.command(short_help="a song folder → YuE's .npy pair, or a YuE-UI project")
@click.argument("song", type=PATH)
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
    from yuegguf.exchange import convert
    from yuegguf.exchange.yue_ui import format_project
    from yuegguf.files.atomic import refuse_to_replace, replacing, storage_errors
    from yuegguf.song.folder import SongFolder

    folder, target = SongFolder.open(song), output_dir or song / "export"
    if yue_ui:
        project = convert.to_project(folder)
        for notice in project.notices:
            output.warn(notice)
        written = [target / f"{folder.path.resolve().name}.json"]
        refuse_to_replace(written, force)
        with storage_errors(target):
            target.mkdir(parents=True, exist_ok=True)
        with replacing(written[0]) as beside:
            beside.write_bytes(format_project(project))
    else:
        files = convert.npy_files(folder)
        refuse_to_replace([target / name for name in files], force)
        written = convert.write_npy_files(files, target)
    output.result({"files": [str(path) for path in written]}, [str(path) for path in written])
