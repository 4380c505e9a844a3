"""What a song of another tool becomes: a request, its codes and sections, and a song folder of ours."""

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
from yuegguf.files.song_work import check_no_song_work
from yuegguf.lm.vocab import interleave
from yuegguf.pipeline.create import planned, record_of
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.lyrics import Section, format_lyrics, parse_lyrics
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import Output, SongRequest
from yuegguf.request.syllables import MAX_SECTION_SECONDS
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import new_song_path
from yuegguf.song.record import Imported, SongRecord, State
from yuegguf.stages.stage1_task import END_OF_AUDIO
from yuegguf.stages.stage2 import chunk_grid


@dataclass(frozen=True)
class Origin:
    """What another tool's files say of a song beside its codes."""

    tool: str
    files: tuple[str, ...]
    """Without their folders."""
    start: float = 0.0
    """Seconds into the files where the song begins."""
    genre: str = ""
    """Empty where it is not said."""
    lyrics: str | None = None
    frames: tuple[int, ...] = ()
    """Of each section; empty where sections are not known."""
    sampling: Sampling = field(default_factory=Sampling)
    segment_seconds: float = 30.0
    seed: int = 0
    notices: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """The files, for a sentence."""
        return " and ".join(self.files)


@dataclass(frozen=True)
class Overrides:
    """What the user says of it, which goes before what the source says."""

    genre: str | None = None
    lyrics: str | None = None
    starts: tuple[float, ...] = ()
    """Where the second and later sections begin, in seconds."""
    output: Output = field(default_factory=Output)


@dataclass(frozen=True)
class ImportedSong:
    """A song as it arrives."""

    request: SongRequest
    codes0: NDArray[np.int16]
    """[2, T] codebook 0."""
    codes: NDArray[np.int16]
    """[2, 8, T'] all codebooks of the first T' ≤ T frames; negative where they are missing."""
    frames: tuple[int, ...]
    """Of each section; T in all."""
    origin: Imported
    """The files that it came from, for song.json."""
    notices: tuple[str, ...] = ()


def assemble(
    codes0: NDArray[np.int16], codes: NDArray[np.int16], source: Origin, known: Overrides
) -> ImportedSong:
    """Codes and what is known of them → a song whose sections fit under the limits of its request.

    Raises RequestError when something is missing or does not fit.
    """
    total = codes0.shape[1]
    if not total:
        raise RequestError(f"there are no frames of music in {source.names}", "take a longer one")
    genre = known.genre or source.genre
    if not genre.strip():
        raise RequestError(f"no genre tags are known of {source.names}", 'pass them: -g "female pop"')
    told = list(source.notices)
    lyrics = source.lyrics if known.lyrics is None else known.lyrics
    frames = _frames_between(known.starts, total) if known.starts else source.frames or _even_frames(total)
    parsed = _sections_for(lyrics, len(frames), bool(known.starts), told)
    if not (known.starts or source.frames) and max(len(frames), len(parsed)) > 1:
        told.append(
            f"all of it is kept as {len(frames)} of {len(parsed)} sections; say where they begin with --at"
        )
    sections, seconds = _raise_limits(parsed, frames, source.segment_seconds)
    if lyrics is None or tuple(sections) != parse_lyrics(lyrics).sections:
        lyrics = format_lyrics(sections)
    sung = "all" if len(frames) == len(sections) else str(len(frames))
    request = SongRequest(genre, lyrics, sung, seconds, source.seed, source.sampling, output=known.output)
    origin = Imported(tool=source.tool, files=source.files, start=source.start)
    whole, first = np.ascontiguousarray(codes), np.ascontiguousarray(codes0)  # one song, the same bytes
    return ImportedSong(request, first, whole, frames, origin, tuple(told))


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
    """One section, or as few as a song needs that is longer than one may be."""
    parts = -(-total // (MAX_SECTION_SECONDS * FRAME_RATE))
    marks = [total * part // parts for part in range(parts + 1)]
    return tuple(b - a for a, b in pairwise(marks))


def _sections_for(lyrics: str | None, count: int, named: bool, told: list[str]) -> list[Section]:
    """At least `count` sections. Raises RequestError where the user `named` more than the lyrics have."""
    if lyrics is None:
        told.append("no lyrics are known: the song is kept without words; pass them with -l")
        return [Section("verse", "")] * count
    sections = list(parse_lyrics(lyrics).sections)
    if len(sections) < count:
        text = f"{count} sections are there, and the lyrics have {len(sections)}"
        if named:
            raise RequestError(text, "write a label for each, or leave out some of --at")
        told.append(f"{text}: the others are kept without words")
    return sections + [Section("verse", "")] * (count - len(sections))


def _raise_limits(
    sections: Sequence[Section], frames: Sequence[int], seconds: float
) -> tuple[list[Section], float]:
    """The sections and the limit of those without their own, raised to what is there already."""
    if max(frames) > MAX_SECTION_SECONDS * FRAME_RATE:
        raise RequestError(
            f"a section is {max(frames) / FRAME_RATE:g} s long, at most {MAX_SECTION_SECONDS} s are allowed",
            "divide it with --at",
        )
    fitted = list(sections)
    for i, (section, count) in enumerate(zip(sections, frames, strict=False)):
        limit = seconds if section.seconds is None else section.seconds
        least = float(-(-count // FRAME_RATE))
        if count <= round(FRAME_RATE * limit):
            continue
        if section.seconds is None:
            seconds = least
        else:
            fitted[i] = replace(section, seconds=least)
    return fitted, seconds


def create_folder(material: ImportedSong, path: Path, record: SongRecord) -> SongFolder:
    """Make this song folder of it; the folder appears whole or not at all. Raises StorageError."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with workspace(path.parent) as beside:
            folder = SongFolder.create(beside / path.name, record)
            folder.advance(_write_codes(folder, material), imported=material.origin)
            folder.path.rename(path)
    return SongFolder.open(path)


def _write_codes(folder: SongFolder, material: ImportedSong) -> State:
    """Write draws and codes; returns the phase that comes next."""
    ends = np.cumsum(material.frames)[:-1]
    sung = [interleave(*part) for part in np.split(material.codes0, ends, axis=1)]
    _write_log(folder, sung, folder.song.caps)
    folder.save_stage1(material.frames, material.codes0)
    return save_refined(folder, material.codes0, material.codes)


def save_refined(folder: SongFolder, codes0: NDArray[np.int16], codes: NDArray[np.int16]) -> State:
    """Keep what stage 2 need not make again of a song [2, T]; returns the phase that comes next.

    `codes` [2, 8, T'] are those of the first T' ≤ T frames. All of them make the whole of stage 2; else the
    chunks count that lie within T', lack nothing and follow codebook 0. Raises StorageError.
    """
    total, there = codes0.shape[1], codes.shape[2]
    usable = (codes[:, 0] == codes0[:, :there]) & (codes >= 0).all(axis=1)
    if there == total and usable.all():
        folder.save_stage2(codes)
        return "master"
    for chunk in chunk_grid(total):
        span = slice(chunk.start, chunk.start + chunk.frames)
        if span.stop <= there and usable[chunk.track, span].all():
            folder.save_chunk(chunk.track, chunk.start, codes[chunk.track, :, span])
    return "refine"


def _write_log(folder: SongFolder, sung: Sequence[NDArray[np.int16]], caps: Sequence[int]) -> None:
    """Write the draws as stage 1 would have: a section at its limit was cut off, any other has ended."""
    log = folder.token_log()
    try:
        for section, (codes, cap) in enumerate(zip(sung, caps, strict=True)):
            for code in codes.tolist():
                log.append(section, code)
            if len(codes) < 2 * cap:
                log.append(section, END_OF_AUDIO)
    finally:
        log.close()


def create_imported_song(arrived: ImportedSong, job: SongJob) -> SongFolder:
    """A song folder of what another tool made, ready to be refined or rendered by `resume`.

    Raises YueError.
    """
    check_no_song_work(job.parent)
    plan, _ = planned(job)
    record = record_of(job, plan)
    return create_folder(arrived, new_song_path(job.parent, record.title), record)
