"""Import of another tool's song, or of two stems."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yuegguf.codec.protocol import CODEBOOKS, FRAME_RATE
from yuegguf.errors import RequestError, quoted
from yuegguf.exchange import convert
from yuegguf.exchange.imported import ImportedSong, ImportFacts
from yuegguf.files.field_types import take_types
from yuegguf.pipeline import engines, preflight
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event, Progress
from yuegguf.song import encoding


@dataclass(frozen=True)
class StemFiles:
    """Recordings of both stems of a song, and the part of them to import."""

    vocal: Path
    instrumental: Path
    start: float = 0.0
    """Seconds into the files where the part begins."""
    seconds: float | None = None
    """Length of the part; None = to the end."""

    def __post_init__(self) -> None:
        take_types(self)


def read_files(source: Sequence[Path], facts: ImportFacts) -> ImportedSong:
    """A YuE-UI project, or YuE's pair of .npy files or their folder. Raises RequestError, DamagedFile."""
    if not source:
        raise RequestError("there is nothing to import", "pass a project or a pair of .npy files")
    if (source[0] / "song.json").is_file():
        raise RequestError(
            f"{source[0]} is a song folder already", f"go on with: yuegguf resume {quoted(source[0])}"
        )
    if len(source) == 1 and source[0].suffix != ".npy" and not source[0].is_dir():
        return convert.from_project(source[0], facts)
    return convert.from_pair(source, facts)


def check_source(source: Sequence[Path] | StemFiles, facts: ImportFacts) -> ImportedSong:
    """The song that an import makes; the codes of stems, which are not encoded for it, are 0.

    Raises RequestError, DamagedFile.
    """
    return _check_stems(source, facts)[1] if isinstance(source, StemFiles) else read_files(source, facts)


def read_source(
    source: Sequence[Path] | StemFiles,
    facts: ImportFacts,
    codec: Path,
    compute: ComputeOptions,
    progress: Progress,
) -> ImportedSong:
    """The song of files or of two stems; assumptions come as warnings. Raises YueError."""
    if isinstance(source, StemFiles):
        song = encode_stem_files(source, facts, codec, compute, progress)
    else:
        song = read_files(source, facts)
    for notice in song.notices:
        progress(Event("import", 0, 1, warning=notice))
    return song


def _check_stems(stems: StemFiles, facts: ImportFacts) -> tuple[slice, ImportedSong]:
    """Frames of two stems to import, and the song with codes of 0. Raises RequestError."""
    files = (stems.vocal, stems.instrumental)
    frames = min(preflight.recording_frames(file) for file in files)
    taken = convert.stem_window(stems.start, stems.seconds, frames)
    like_it = np.zeros((2, CODEBOOKS, taken.stop - taken.start), np.int16)
    return taken, convert.from_stems(like_it, files, taken.start / FRAME_RATE, facts)


def encode_stem_files(
    stems: StemFiles, facts: ImportFacts, codec: Path, compute: ComputeOptions, progress: Progress
) -> ImportedSong:
    """Two stems, encoded as references are: whole where the memory allows. Raises YueError."""
    files = (stems.vocal, stems.instrumental)
    taken, _ = _check_stems(stems, facts)  # what is wrong is said before minutes of encoding
    room = engines.encoding_memory(codec, compute.max_memory)
    with closing(engines.open_codec(codec, compute.threads)) as opened:
        progress(Event("encode", 0, 1, " and ".join(file.name for file in files)))
        codes = encoding.encode_stems(files, opened, room, taken, progress)
    return convert.from_stems(codes, files, taken.start / FRAME_RATE, facts)
