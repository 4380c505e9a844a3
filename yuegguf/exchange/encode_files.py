"""Recordings → files of codes, and songs of the user's own → finetuning data."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from yuegguf.audio.recording import open_recording
from yuegguf.codec.protocol import CODEBOOKS, FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.exchange import finetuning_data
from yuegguf.exchange.npy_codes import write_track
from yuegguf.files.atomic import refuse_to_replace, storage_errors
from yuegguf.files.field_types import take_types
from yuegguf.pipeline import engines, preflight
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event, Progress, part_of
from yuegguf.request.ranges import check_integer
from yuegguf.song.encoding import AudioSource, audio_source, encode_source, part_count, split_window


@dataclass(frozen=True)
class EncodeOptions:
    """Part of a recording to encode, and the codebooks to keep."""

    codebooks: int = CODEBOOKS
    """1 to 8."""
    start: float = 0.0
    """Seconds into the recording."""
    end: float | None = None
    """Seconds into the recording; None = its end."""

    def __post_init__(self) -> None:
        take_types(self)
        check_integer("codebooks", self.codebooks, 1, CODEBOOKS)
        last = math.inf if self.end is None else self.end
        if not (math.isfinite(self.start) and 0 <= self.start < last):
            raise RequestError(f"the window {self.start:g}-{last:g} s is empty", "pass --start < --end")

    @property
    def window(self) -> slice:
        """The frames of the part; a later end than any file's is the file's."""
        last = math.inf if self.end is None else self.end
        first, stop = (round(min(FRAME_RATE * seconds, sys.maxsize)) for seconds in (self.start, last))
        return slice(first, stop)


@dataclass(frozen=True)
class EncodedFile:
    """A file of codes [codebooks, frames]."""

    file: Path
    codebooks: int
    frames: int
    """50 a second."""


@dataclass(frozen=True)
class FinetuningData:
    """A JSONL file of songs; their codes lie beside it in `codes/`."""

    file: Path
    songs: int
    seconds: float


def encode_files(
    files: Sequence[Path],
    output_dir: Path | None,
    codec: Path,
    options: EncodeOptions,
    compute: ComputeOptions,
    *,
    force: bool,
    progress: Progress,
) -> tuple[EncodedFile, ...]:
    """Encode each recording to an .npy of its name, in `output_dir` or beside it.

    All of it is checked before the first is encoded. Raises YueError.
    """
    targets = _targets(files, output_dir, force)
    sources = check_encoding(files, codec, options, compute)
    room = engines.encoding_memory(codec, compute.max_memory)
    counts = [part_count(source, options.window, room) for source in sources]
    written = []
    with closing(engines.open_codec(codec, compute.threads)) as opened:
        for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
            parts = part_of(progress, sum(counts[:number]), sum(counts))
            parts(Event("encode", 0, 1, source.name))
            codes = encode_source(source, opened, room, options.window, parts)[: options.codebooks]
            with storage_errors(target.parent):
                target.parent.mkdir(parents=True, exist_ok=True)
            write_track(target, codes)
            written.append(EncodedFile(target, options.codebooks, codes.shape[1]))
    return tuple(written)


def check_encoding(
    files: Sequence[Path], codec: Path, options: EncodeOptions, compute: ComputeOptions
) -> list[AudioSource]:
    """The recordings, once it is checked that each can be encoded. Raises YueError."""
    room = engines.encoding_memory(codec, compute.max_memory)
    sources = [_source(file, options) for file in files]
    for source in sources:  # all of it is said before minutes of encoding
        split_window(source, slice(*options.window.indices(source.frames)), room)
    return sources


def _source(file: Path, options: EncodeOptions) -> AudioSource:
    """A recording to encode. Raises RequestError where the window holds nothing of it."""
    source = audio_source(open_recording(file))
    first, last, _ = options.window.indices(source.frames)
    if source.frames and first >= last:
        seconds = source.frames / FRAME_RATE
        raise RequestError(
            f"the window from {options.start:g} s holds nothing of {file}, which is {seconds:g} s long",
            "pass a longer one that begins before its end",
        )
    return source


def _targets(files: Sequence[Path], folder: Path | None, force: bool) -> list[Path]:
    """Path for the codes of each file. Raises RequestError for one that exists."""
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


def encode_songs(
    folder: Path, out: Path, codec: Path, compute: ComputeOptions, *, force: bool, progress: Progress
) -> FinetuningData:
    """Write finetuning data of a folder with a folder for each song. Raises YueError."""
    songs = finetuning_data.read_songs(folder, out)
    refuse_to_replace([out], force)
    with closing(engines.open_codec(codec, compute.threads)) as opened:
        encoder = finetuning_data.DatasetEncoder(
            opened, preflight.codec_id(codec), engines.encoding_memory(codec, compute.max_memory)
        )
        rows = finetuning_data.write_dataset(songs, encoder, out, force, progress)
    return FinetuningData(out, len(rows), sum(row["audio_length_in_sec"] for row in rows))
