"""YuE-UI's project file: JSON with the ids of both stages, section times, lyrics, tags and settings.

Ids are those of the published vocabulary, flattened frame by frame. YuE-UI opens a section at every
bracket, so its lyrics are not always ours (`our_lyrics`, `their_lyrics`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import CODEBOOKS
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files import typed_json
from yuegguf.files.kinds import HEAD_BYTES, check_text
from yuegguf.lm.vocab import CODEBOOK_SIZE
from yuegguf.request.changes import Kind
from yuegguf.request.lyrics import Lyrics, Section, format_lyrics, parse_lyrics
from yuegguf.request.prepared import prepare
from yuegguf.request.ranges import MAX_SECTION_SECONDS, MIN_SECTION_SECONDS
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest
from yuegguf.stages.prompt import INSTRUCTION

FIRST_ID = 45_334
"""Id of code 0 of codebook 0 in the published vocabulary; the other codebooks follow."""
INVALID = -1
"""Code for an id of another codebook than its position's."""

PROJECT_ERRORS = (LookupError, TypeError, ValueError, OverflowError)
"""Errors of reading other JSON as a project."""

_LABEL = re.compile(r"\[([^\[\]]+)\]([^\[#]*)")
_LENGTH_IN_FRAMES = re.compile(r"^(\s*#length\s+)([0-9]{1,9})t\s*$", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(r"#length\s+([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Segment:
    """A generated section, in frames."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class _ProjectCache:
    """The part of a project file that holds its music."""

    tracks: list[list[Any]]
    """Ids by stage and track; may be nested lists."""
    segments: list[tuple[str, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _ProjectFile:
    """The required fields of a project file; settings out of range are left out with a notice."""

    cache: _ProjectCache
    lyrics_text: str | None = None
    genre_text: str | list[str] | None = None


@dataclass(frozen=True)
class Project:
    """Content of a project file."""

    genre: str
    lyrics: str
    segments: tuple[Segment, ...]
    """In order, without overlap; empty if the project has none."""
    codes0: NDArray[np.int16]
    """[2, T] codebook 0, vocal first."""
    codes: NDArray[np.int16]
    """[2, 8, T'] codes of stage 2; INVALID for an id of another codebook."""
    sampling: Sampling = field(default_factory=Sampling)
    segment_seconds: float = 30.0
    seed: int = 0
    notices: tuple[str, ...] = ()


def parse_project(content: bytes, name: str) -> Project:
    """A project from its file. Raises DamagedFile, RequestError when it holds no music."""
    check_text(Path(name), content[:HEAD_BYTES])
    try:
        data = typed_json.read_json(content, dict[str, Any], name, "")
        file = typed_json.as_typed(data, _ProjectFile, name, "", others=True)
        stages, tags = file.cache.tracks, file.genre_text or []
        genre = tags if isinstance(tags, str) else " ".join(tags)
        first = [_ids(track) for track in stages[0]]
        second = [_ids(track) for track in stages[1]] if len(stages) > 1 else []
        found = tuple(Segment(label, int(start), int(end)) for label, start, end in file.cache.segments)
    except (*PROJECT_ERRORS, DamagedFile, RecursionError) as error:
        raise DamagedFile(
            f"{name} is not a project of YuE-UI, or it is damaged",
            "pass a .json that YuE-UI saved; recordings go with --vocal and --inst",
        ) from error
    if len(first) != 2 or not all(len(track) for track in first):
        raise RequestError(f"{name} has not both tracks", "generate in YuE-UI first, or import both stems")
    codes0, notices = _stage1_codes(first, name)
    sampling, seconds, seed, more = _settings(data)
    return Project(
        genre,
        file.lyrics_text or "",
        _clip_segments(found, codes0.shape[1], name),
        codes0,
        _stage2_codes(second),
        sampling,
        seconds,
        seed,
        (*notices, *more),
    )


def _ids(track: Any) -> NDArray[np.int64]:
    """Ids that may have been written as whole floats. Raises ValueError, TypeError."""
    numbers = np.asarray(track, np.float64).ravel()
    ids = np.where(np.abs(numbers) < 2**53, numbers, INVALID).astype(np.int64)  # not NaN, and no larger
    if not (ids == numbers).all():
        raise ValueError("an id is not a whole number")
    return ids


def _stage1_codes(tracks: Sequence[NDArray[np.int64]], name: str) -> tuple[NDArray[np.int16], list[str]]:
    frames = min(len(track) for track in tracks)
    notices = []
    if any(len(track) != frames for track in tracks):
        notices.append(f"the tracks of {name} differ in length; both are cut to {frames} frames")
    codes = np.stack([track[:frames] for track in tracks]) - FIRST_ID
    wrong = int(((codes < 0) | (codes >= CODEBOOK_SIZE)).sum())
    if wrong:
        raise DamagedFile(
            f"{wrong} of the stage-1 ids in {name} are not of codebook 0",
            "redo that part in YuE-UI",
        )
    return codes.astype(np.int16), notices


def _stage2_codes(tracks: Sequence[NDArray[np.int64]]) -> NDArray[np.int16]:
    """[2, 8, T'] from flat ids; a frame that is not whole is left out."""
    frames = min((len(track) // CODEBOOKS for track in tracks), default=0) if len(tracks) == 2 else 0
    if not frames:
        return np.zeros((2, CODEBOOKS, 0), np.int16)
    ids = np.stack([track[: frames * CODEBOOKS].reshape(frames, CODEBOOKS).T for track in tracks])
    codes = ids - FIRST_ID - CODEBOOK_SIZE * np.arange(CODEBOOKS)[:, None]
    return np.where((codes >= 0) & (codes < CODEBOOK_SIZE), codes, INVALID).astype(np.int16)


def _clip_segments(segments: Sequence[Segment], frames: int, name: str) -> tuple[Segment, ...]:
    """The segments, clipped to the frames of stage 1. Raises DamagedFile when they overlap."""
    kept = [replace(s, start=min(s.start, frames), end=min(s.end, frames)) for s in segments]
    wrong = any(not 0 <= s.start <= s.end for s in kept) or any(a.end > b.start for a, b in pairwise(kept))
    if wrong:
        raise DamagedFile(f"the sections of {name} overlap", "open and save it in YuE-UI again")
    return tuple(kept)


def _settings(data: dict[str, Any]) -> tuple[Sampling, float, int, list[str]]:
    """Sampling, seconds of a section and seed, defaults for unusable values, and notices of omissions."""
    notices = []
    kept: dict[str, Any] = {
        "guidance_first": data.get("generation_stage1_cfg_scale"),
        "guidance_rest": data.get("generation_stage1_cfg_scale"),
        "top_p": data.get("generation_stage1_top_p"),
        "temperature": data.get("generation_stage1_temperature"),
        "repetition_penalty": data.get("generation_repetition_penalty"),
    }
    sampling = Sampling()
    try:
        numbers: dict[str, Any] = {name: float(v) for name, v in kept.items() if v is not None}
        sampling = Sampling(**numbers)
    except (RequestError, TypeError, ValueError):
        notices.append("the project's sampling settings are out of range and left out")
    seconds, seed = data.get("default_segment_length"), data.get("generation_seed")
    left_out = {
        "audio prompt": data.get("audio_prompt") not in (None, "Off"),
        "system prompt": data.get("system_prompt") not in (None, INSTRUCTION),
        "muting of sections": bool(data["cache"].get("muted_segments")),
    }
    notices += [f"the project's {what} is left out" for what, there in left_out.items() if there]
    if isinstance(seconds, bool) or not (
        isinstance(seconds, int | float) and MIN_SECTION_SECONDS <= seconds <= MAX_SECTION_SECONDS
    ):
        seconds = 30.0
    return (
        sampling,
        float(seconds),
        seed if type(seed) is int and 0 <= seed < 2**63 else 0,  # a bool is an int too
        notices,
    )


def format_project(project: Project) -> bytes:
    """Bytes of a project file."""
    offsets = FIRST_ID + CODEBOOK_SIZE * np.arange(CODEBOOKS)[:, None]
    first = [(track.astype(np.int64) + FIRST_ID).tolist() for track in project.codes0]
    second = [(track.astype(np.int64) + offsets).T.ravel().tolist() for track in project.codes]
    sampling = project.sampling
    data = {
        "cache": {
            "tracks": [first, second],
            "segments": [[s.name, s.start, s.end] for s in project.segments],
            "muted_segments": [],
        },
        "genre_text": project.genre.split(),
        "lyrics_text": project.lyrics,
        "default_segment_length": project.segment_seconds,
        "generation_seed": project.seed,
        "generation_stage1_top_p": sampling.top_p,
        "generation_stage1_temperature": sampling.temperature,
        "generation_repetition_penalty": sampling.repetition_penalty,
    }
    if sampling.guidance_first == sampling.guidance_rest:  # YuE-UI has one scale for all sections
        data["generation_stage1_cfg_scale"] = sampling.guidance_first
    return json.dumps(data, ensure_ascii=False).encode()


def split_sections(lyrics: str) -> list[Section]:
    """Lyrics as YuE-UI splits them: a section at every bracket, whose text ends at the next bracket or #."""
    found, last = [], 0
    for match in _LABEL.finditer(_LENGTH_IN_FRAMES.sub(_length_in_seconds, lyrics)):
        lengths = _LENGTH.findall(match.string, last, match.start())
        found.append(Section(match[1].strip(), match[2].strip(), float(lengths[-1]) if lengths else None))
        last = match.end()
    return found


def _length_in_seconds(match: re.Match[str]) -> str:
    """Turn YuE-UI's `#length 600t` in frames into seconds."""
    return f"{match[1]}{int(match[2]) / 50:g}"


def our_label(name: str) -> str:
    """Our label for a section of YuE-UI; "verse" if the name is no valid label."""
    try:
        sections = parse_lyrics(f"[{name}]", keep_repeats=True).sections
    except RequestError:
        return "verse"
    return sections[0].label if not sections[0].body else "verse"


def our_lyrics(lyrics: str, names: Sequence[str]) -> str:
    """Lyrics that `parse_lyrics` splits into sections of these names first.

    The text itself if both programs split it alike, else rewritten as YuE-UI splits it.
    """
    labels, text = [our_label(name) for name in names], _LENGTH_IN_FRAMES.sub(_length_in_seconds, lyrics)
    try:
        parsed = parse_lyrics(text, keep_repeats=True)
    except RequestError:
        parsed = Lyrics(())
    alike = all(change.kind is Kind.LABEL for change in parsed.changes)
    ours = [section.label for section in parsed.sections] if alike else []
    if ours and ours[: len(labels)] == labels:
        return text
    theirs = [replace(section, label=our_label(section.label)) for section in split_sections(lyrics)]
    theirs += [Section(label, "") for label in labels[len(theirs) :]]
    theirs = [_as_one_section(section) for section in theirs]
    renamed = [replace(section, label=label) for section, label in zip(theirs, labels, strict=False)]
    return format_lyrics([*renamed, *theirs[len(labels) :]]) or format_lyrics([Section("verse", "")])


def _as_one_section(section: Section) -> Section:
    """A section without the lines that `parse_lyrics` would take for heads of others."""
    while len(parts := parse_lyrics(format_lyrics([section]), keep_repeats=True).sections) > 1:
        section = replace(section, body="\n".join(part.body for part in parts))
    return replace(section, body=parts[0].body)


def their_lyrics(request: SongRequest) -> tuple[str, list[str]]:
    """A request's lyrics as YuE-UI splits them into the same sections, and the names of the chosen ones.

    The text itself if both programs split it alike and the first sections are chosen; else the chosen
    sections, with round brackets inside them.
    """
    song = prepare(request)
    every, chosen = song.all_sections, song.sections
    theirs = split_sections(request.lyrics)
    alike = [replace(section, label=our_label(section.label)) for section in theirs] == list(every)
    if alike and chosen == every[: len(chosen)]:
        return request.lyrics, [section.label for section in theirs[: len(chosen)]]
    round_ = str.maketrans({"[": "(", "]": ")", "#": None})
    plain = [replace(section, body=section.body.translate(round_)) for section in chosen]
    return format_lyrics(plain), [section.label for section in chosen]
