"""Songs of other tools as a request, codes and sections, and as a song folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.files.atomic import storage_errors, workspace
from yuegguf.files.field_types import take_types
from yuegguf.files.song_work import check_no_song_work
from yuegguf.lm.vocab import interleave
from yuegguf.pipeline.create import planned, record_of
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.lyrics import Section, format_lyrics, parse_lyrics
from yuegguf.request.ranges import MAX_SECTION_SECONDS
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import Output, SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import new_song_path
from yuegguf.song.record import Imported, Phase, SongRecord
from yuegguf.stages.stage1_task import END_OF_AUDIO
from yuegguf.stages.stage2 import chunk_grid


@dataclass(frozen=True)
class Origin:
    """Facts of a song in another tool's files, besides its codes."""

    tool: str
    files: tuple[str, ...]
    """File names without folders."""
    start: float = 0.0
    """Seconds into the files where the song begins."""
    genre: str = ""
    """Empty if unknown."""
    lyrics: str | None = None
    frames: tuple[int, ...] = ()
    """Frames of each section; empty if sections are unknown."""
    sampling: Sampling = field(default_factory=Sampling)
    segment_seconds: float = 30.0
    seed: int = 0
    notices: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """The file names joined for a message."""
        return " and ".join(self.files)


@dataclass(frozen=True)
class ImportFacts:
    """Facts about an imported song that replace those in its files."""

    genre: str | None = None
    lyrics: str | None = None
    starts: tuple[float, ...] = ()
    """Starts of the second and later sections, in seconds."""
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        take_types(self)


@dataclass(frozen=True)
class ImportedSong:
    """A song of another tool, checked and complete."""

    request: SongRequest
    codes0: NDArray[np.int16]
    """[2, T] codebook 0."""
    codes: NDArray[np.int16]
    """[2, 8, T'] all codebooks of the first T' ≤ T frames; negative where they are missing."""
    frames: tuple[int, ...]
    """Frames of each section, T in all."""
    origin: Imported
    """Its source files, for song.json."""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportedFolder:
    """A song folder made of an imported song."""

    folder: Path
    state: Phase
    """Phase that comes next: "refine", or "master" where all codes were there."""
    seconds: float
    frames: tuple[int, ...]
    """Frames of each section, 50 a second."""


def assemble(
    codes0: NDArray[np.int16], codes: NDArray[np.int16], source: Origin, known: ImportFacts
) -> ImportedSong:
    """Combine codes, origin and overrides into a song whose sections keep the limits of its request.

    Raises RequestError when something is missing or out of range.
    """
    total = codes0.shape[1]
    if not total:
        raise RequestError(f"there are no frames of music in {source.names}", "take a longer one")
    genre = known.genre or source.genre
    if not genre.strip():
        raise RequestError(f"no genre tags are known of {source.names}", 'pass them: -g "female pop"')
    notices = list(source.notices)
    lyrics = source.lyrics if known.lyrics is None else known.lyrics
    frames = _frames_between(known.starts, total) if known.starts else source.frames or _even_frames(total)
    parsed = _sections_for(lyrics, len(frames), bool(known.starts), notices)
    if not (known.starts or source.frames) and max(len(frames), len(parsed)) > 1:
        notices.append(
            f"all of it is kept as {len(frames)} of {len(parsed)} sections; say where they begin with --at"
        )
    sections, seconds = _raise_limits(parsed, frames, source.segment_seconds)
    if lyrics is None or tuple(sections) != parse_lyrics(lyrics, keep_repeats=True).sections:
        lyrics = format_lyrics(sections)
    chosen = "all" if len(frames) == len(sections) else str(len(frames))
    request = SongRequest(
        *(genre, lyrics, chosen, seconds, source.seed, source.sampling),
        output=known.output,
        keep_repeats=True,  # the words are those that it was generated from
    )
    origin = Imported(tool=source.tool, files=source.files, start=source.start)
    whole, first = (
        np.ascontiguousarray(codes),
        np.ascontiguousarray(codes0),
    )  # so that one song always gives the same bytes
    return ImportedSong(request, first, whole, frames, origin, tuple(notices))


def _frames_between(starts: Sequence[float], total: int) -> tuple[int, ...]:
    """Frames of the sections that begin at 0 and at `starts`. Raises RequestError."""
    length = total / FRAME_RATE
    inside = all(0 < start < length for start in starts)
    marks = [0, *(round(FRAME_RATE * start) for start in starts), total] if inside else [0, 0]
    if any(a >= b for a, b in pairwise(marks)):
        raise RequestError(
            "the starts of the sections are not in order within the song", f"it is {length:g} s long"
        )
    return tuple(b - a for a, b in pairwise(marks))


def _even_frames(total: int) -> tuple[int, ...]:
    """Frames of as few equal sections as the length limit of a section allows."""
    parts = -(-total // (MAX_SECTION_SECONDS * FRAME_RATE))
    marks = [total * part // parts for part in range(parts + 1)]
    return tuple(b - a for a, b in pairwise(marks))


def _sections_for(lyrics: str | None, count: int, named: bool, notices: list[str]) -> list[Section]:
    """At least `count` sections. Raises RequestError when `named` starts exceed the lyrics' sections."""
    if lyrics is None:
        notices.append("no lyrics are known: the song is kept without words; pass them with -l")
        return [Section("verse", "")] * count
    parsed = parse_lyrics(lyrics, keep_repeats=True)
    notices.extend(parsed.notices)
    sections = list(parsed.sections)
    if len(sections) < count:
        text = f"{count} sections are there, and the lyrics have {len(sections)}"
        if named:
            raise RequestError(text, "write a label for each, or leave out some of --at")
        notices.append(f"{text}: the others are kept without words")
    return sections + [Section("verse", "")] * (count - len(sections))


def _raise_limits(
    sections: Sequence[Section], frames: Sequence[int], seconds: float
) -> tuple[list[Section], float]:
    """The sections and the default limit in seconds, both raised to the sections' actual lengths."""
    if max(frames) > MAX_SECTION_SECONDS * FRAME_RATE:
        raise RequestError(
            f"a section is {max(frames) / FRAME_RATE:g} s long, at most {MAX_SECTION_SECONDS} s are allowed",
            "divide it with --at",
        )
    fitted = list(sections)
    for i, (section, count) in enumerate(zip(sections, frames, strict=False)):
        limit = seconds if section.seconds is None else section.seconds
        needed = float(-(-count // FRAME_RATE))
        if count <= round(FRAME_RATE * limit):
            continue
        if section.seconds is None:
            seconds = needed
        else:
            fitted[i] = replace(section, seconds=needed)
    return fitted, seconds


def create_folder(imported: ImportedSong, path: Path, record: SongRecord) -> SongFolder:
    """Create a song folder of an imported song; it appears whole or not at all. Raises StorageError."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with workspace(path.parent) as beside:
            folder = SongFolder.create(beside / path.name, record)
            folder.advance(_write_codes(folder, imported), imported=imported.origin)
            folder.path.rename(path)
    return SongFolder.open(path)


def _write_codes(folder: SongFolder, imported: ImportedSong) -> Phase:
    """Write the token log and codes; returns the next phase."""
    ends = np.cumsum(imported.frames)[:-1]
    sections = [interleave(*part) for part in np.split(imported.codes0, ends, axis=1)]
    _write_log(folder, sections, folder.song.caps)
    folder.save_stage1(imported.frames, imported.codes0)
    return save_refined(folder, imported.codes0, imported.codes)


def save_refined(folder: SongFolder, codes0: NDArray[np.int16], codes: NDArray[np.int16]) -> Phase:
    """Save existing stage-2 codes [2, 8, T'] of a song with codebook 0 [2, T]; returns the next phase.

    Complete codes (T' = T) are saved as stage 2's result; else each chunk that lies within T', is complete
    and matches codebook 0. Raises StorageError.
    """
    total, refined = codes0.shape[1], codes.shape[2]
    usable = (codes[:, 0] == codes0[:, :refined]) & (codes >= 0).all(axis=1)
    if refined == total and usable.all():
        folder.save_stage2(codes)
        return "master"
    for chunk in chunk_grid(total):
        span = slice(chunk.start, chunk.start + chunk.frames)
        if span.stop <= refined and usable[chunk.track, span].all():
            folder.save_chunk(chunk.track, chunk.start, codes[chunk.track, :, span])
    return "refine"


def _write_log(folder: SongFolder, sections: Sequence[NDArray[np.int16]], caps: Sequence[int]) -> None:
    """Write the log as stage 1 would: a section at its limit was cut off, any other has an end of audio."""
    log = folder.token_log()
    try:
        for section, (codes, cap) in enumerate(zip(sections, caps, strict=True)):
            for code in codes.tolist():
                log.append(section, code)
            if len(codes) < 2 * cap:
                log.append(section, END_OF_AUDIO)
    finally:
        log.close()


def create_imported_song(song: ImportedSong, job: SongJob, path: Path | None = None) -> ImportedFolder:
    """Plan an imported song and create its folder, which `resume` refines or renders.

    `path` is the folder's; None = a new one of the job's parent. Raises YueError.
    """
    check_no_song_work(job.parent)
    plan, _ = planned(job)
    record = record_of(job, plan)
    folder = create_folder(song, path or new_song_path(job.parent, record.title), record)
    return ImportedFolder(folder.path, folder.state, song.codes0.shape[1] / FRAME_RATE, song.frames)
