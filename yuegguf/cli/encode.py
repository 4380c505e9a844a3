"""`encode` and `decode`."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import (
    PATH,
    audio_options,
    codec_option,
    memory_option,
    models_root,
    pass_output,
    threads_option,
)
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.files.atomic import refuse_to_replace, storage_errors
from yuegguf.pipeline import engines, song_models
from yuegguf.request.song_request import Output as SongOutput


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
    from contextlib import closing

    from yuegguf.exchange.npy_codes import read_codes, read_track, title_from_path, track_from_name
    from yuegguf.pipeline import write_audio as files_of

    alone = track_from_name(codes[0]) if len(codes) == 1 and codes[0].suffix == ".npy" else None
    loaded = read_track(codes[0]) if alone else read_codes(codes)
    if not loaded.shape[-1]:
        raise RequestError(f"{codes[0]} holds no frames of music", "pass codes of a longer recording or song")
    target = output_dir or (codes[0] if codes[0].is_dir() else codes[0].parent)
    names = [codes[0].stem] if alone else ["mix", *(["vocals", "instrumental"] if audio.stems else [])]
    refuse_to_replace([target / f"{name}.{kind}" for name in names for kind in audio.formats], force)
    _make_folder(target)
    title = title_from_path(codes[0])
    with closing(engines.open_codec(_codec_of(codes[0], codec), threads)) as opened:
        if alone:
            files = files_of.write_track(loaded, alone, opened, audio, target / names[0], output.progress)
        else:
            extra = _extra(codes[0], loaded.shape[-1])
            files = files_of.write_song(loaded, opened, audio, target, title, output.progress, extra)
    output.done()
    seconds = loaded.shape[-1] / FRAME_RATE
    output.result({"files": [str(f) for f in files], "seconds": seconds}, [str(f) for f in files])


def _codec_of(codes: Path, named: Path | None) -> Path:
    """The codec that is named; else a song's own; else the installed one. Raises ModelNotFound."""
    from yuegguf.models import resolve
    from yuegguf.song.folder import SongFolder

    if named is None and (codes / "song.json").is_file():
        return song_models.codec_of_song(SongFolder.open(codes))
    return resolve.resolve_codec(codec_choice(named))


def _extra(codes: Path, frames: int) -> Any:
    """The marks and the recording of a song folder; nothing of other codes."""
    from yuegguf.pipeline.write_audio import FileExtras, file_extras
    from yuegguf.song.folder import SongFolder

    return file_extras(SongFolder.open(codes), frames) if (codes / "song.json").is_file() else FileExtras()


def _make_folder(folder: Path) -> None:
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


@click.command(short_help="audio → codes, as .npy files like YuE's")
@click.argument("files", type=PATH, nargs=-1, required=True)
@click.option(
    "--codebooks", type=click.IntRange(1, 8), default=8, show_default=True, help="Codebooks to keep."
)
@click.option("--start", type=click.FloatRange(0), default=0.0, show_default=True, metavar="SEC")
@click.option("--end", type=click.FloatRange(0), metavar="SEC", help="[default: the end]")
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
    from contextlib import closing

    from yuegguf.exchange.npy_codes import write_track
    from yuegguf.models import resolve
    from yuegguf.song.encoding import encode_source as encoded
    from yuegguf.song.encoding import split_window

    if jsonl is not None:
        _finetuning_data(output, files, jsonl, force, (codec, threads, max_memory))
        return
    window = _window(start, end)
    targets = _targets(files, output_dir, force)
    folder = resolve.resolve_codec(codec_choice(codec))
    room = engines.encoding_memory(folder, max_memory)
    sources = [_source(file, window, start) for file in files]
    for source in sources:  # all of it is said before minutes of encoding
        split_window(source, slice(*window.indices(source.frames)), room)
    written = []
    with closing(engines.open_codec(folder, threads)) as opened:
        for source, target in zip(sources, targets, strict=True):
            codes = encoded(source, opened, room, window, output.progress)[:codebooks]
            _make_folder(target.parent)
            write_track(target, codes)
            written.append({"file": str(target), "codebooks": codebooks, "frames": codes.shape[1]})
    output.done()
    output.result({"files": written}, [str(entry["file"]) for entry in written])


def _source(file: Path, window: slice, start: float) -> Any:
    """A recording to encode. Raises RequestError where the window, from `start` s on, holds nothing of it."""
    from yuegguf.audio.recording import open_recording
    from yuegguf.song.encoding import audio_source

    source = audio_source(open_recording(file))
    first, last, _ = window.indices(source.frames)
    if source.frames and first >= last:
        seconds = source.frames / FRAME_RATE
        raise RequestError(
            f"the window from {start:g} s holds nothing of {file}, which is {seconds:g} s long",
            "pass a longer one that begins before its end",
        )
    return source


def _finetuning_data(
    output: Console,
    files: tuple[Path, ...],
    out: Path,
    force: bool,
    means: tuple[Path | None, int | None, int | None],
) -> None:
    """Write a JSONL of songs; `means` are the codec, its threads and the most memory that it may take."""
    from contextlib import closing

    from yuegguf.exchange import finetuning_data
    from yuegguf.models import resolve
    from yuegguf.pipeline import preflight

    if len(files) != 1:
        raise RequestError("--jsonl takes one folder of songs", "pass the folder that holds theirs")
    songs = finetuning_data.read_songs(files[0])
    refuse_to_replace([out], force)
    codec, threads, max_memory = means
    folder = resolve.resolve_codec(codec_choice(codec))
    with closing(engines.open_codec(folder, threads)) as opened:
        encoder = finetuning_data.DatasetEncoder(
            opened, preflight.codec_id(folder), engines.encoding_memory(folder, max_memory)
        )
        rows = finetuning_data.write_dataset(songs, encoder, out, force, output.progress)
    output.done()
    seconds = sum(row["audio_length_in_sec"] for row in rows)
    output.result({"file": str(out), "songs": len(rows), "seconds": seconds}, [str(out)])


def _window(start: float, end: float | None) -> slice:
    """The frames between two times in seconds; an infinite end is the file's. Raises RequestError."""
    last = math.inf if end is None else end
    if not (math.isfinite(start) and start < last):
        raise RequestError(f"the window {start:g}-{last:g} s is empty", "pass --start < --end")
    first, stop = (round(min(FRAME_RATE * seconds, sys.maxsize)) for seconds in (start, last))
    return slice(first, stop)


def _targets(files: tuple[Path, ...], folder: Path | None, force: bool) -> list[Path]:
    """Where the codes of each file go. Raises RequestError rather than write over anything."""
    targets = [(folder or file.parent) / f"{file.stem}.npy" for file in files]
    sources: dict[Path, Path] = {}
    for file, target in zip(files, targets, strict=True):
        other = sources.setdefault(Path(os.path.realpath(target)), file)
        if other is not file:
            raise RequestError(
                f"{other} and {file} would both become {target}", "encode one of them with another -o FOLDER"
            )
    refuse_to_replace(targets, force)
    return targets


def codec_choice(codec: Path | None) -> Any:
    """A model choice that names the codec alone."""
    from yuegguf.models.resolve import ModelChoice

    return ModelChoice(codec=codec, models_dir=models_root())
