"""Songs of other tools → our song folder, and back: YuE-UI's projects, YuE's .npy pairs, two stems."""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import CODEBOOKS, FRAME_RATE, whole_frames
from yuegguf.errors import RequestError, quoted
from yuegguf.exchange import yue_ui
from yuegguf.exchange.imported import ImportedSong, ImportFacts, Origin, assemble
from yuegguf.exchange.npy_codes import TRACK_SUFFIXES, read_pair
from yuegguf.exchange.yue_ui import Project, Segment
from yuegguf.files.arrays import save_array
from yuegguf.files.atomic import read_limited, storage_errors
from yuegguf.files.typed_json import MAX_JSON_BYTES
from yuegguf.request.ranges import MAX_SECTION_SECONDS
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder

MAX_TAG_BYTES = 120
"""Most bytes of tags in an official file name; infer.py writes all, which file systems refuse at 255."""

_DECIMAL = r"[0-9]{1,9}(?:@[0-9]{1,20})?"
"""A number in an official file name, whose point is an @."""
_OFFICIAL_NAME = re.compile(
    rf"(?:cot_)?(?P<tags>.+)_tp(?P<top_p>{_DECIMAL})_T(?P<temperature>{_DECIMAL})_rp(?P<penalty>{_DECIMAL})"
    r"_maxtk(?P<ids>[0-9]{1,9})_"
)
_UNSAFE = re.compile(r'[\s/\\:*?"<>|\x00-\x1f]+')


def from_project(path: Path, known: ImportFacts) -> ImportedSong:
    """A YuE-UI project. Raises RequestError, DamagedFile."""
    if not path.is_file():
        raise RequestError(f"there is no file {path}", "pass a .json that YuE-UI saved")
    project = yue_ui.parse_project(
        read_limited(path, MAX_JSON_BYTES, "pass a .json that YuE-UI saved"), path.name
    )
    lyrics = yue_ui.our_lyrics(project.lyrics, [segment.name for segment in project.segments])
    notices = project.notices
    if lyrics != project.lyrics and known.lyrics is None:
        notices += ("the lyrics are written anew, as YuE-UI splits them into sections",)
    source = Origin(
        "YuE-UI",
        (path.name,),
        genre=project.genre,
        lyrics=lyrics,
        frames=tuple(segment.end - segment.start for segment in project.segments),
        sampling=project.sampling,
        segment_seconds=project.segment_seconds,
        seed=project.seed,
        notices=notices,
    )
    frames = _shown_frames(project)
    return assemble(
        project.codes0[:, frames], project.codes[:, :, frames[frames < project.codes.shape[2]]], source, known
    )


def _shown_frames(project: Project) -> NDArray[np.int64]:
    """Indices of the segments' frames; a rewound project holds more frames than its segments."""
    if not project.segments:
        return np.arange(project.codes0.shape[1])
    return np.concatenate([np.arange(segment.start, segment.end) for segment in project.segments])


def from_pair(paths: Sequence[Path], known: ImportFacts) -> ImportedSong:
    """YuE's `*_vtrack.npy` and `*_itrack.npy` of stage 1 or 2, as two files or in a folder.

    Tracks of different length are cut to the shorter, with a notice. Tags and settings come from the
    official file name. Raises RequestError, DamagedFile.
    """
    files, tracks = read_pair(paths)
    frames = min(track.shape[1] for track in tracks)
    source = Origin("YuE", tuple(file.name for file in files))
    if any(track.shape[1] != frames for track in tracks):
        notice = f"the tracks differ in length; both are cut to {frames / FRAME_RATE:g} s"
        source = replace(source, notices=(notice,))
    codes = np.stack([track[:, :frames] for track in tracks])
    whole = codes if codes.shape[1] == CODEBOOKS else _no_codes()
    return assemble(codes[:, 0], whole, _with_name_settings(source), known)


def _with_name_settings(source: Origin) -> Origin:
    """The origin with the tags and settings in infer.py's file name, if they are in range."""
    match = _OFFICIAL_NAME.match(source.files[0])
    if not match:
        return source
    temperature, penalty, top_p = (
        float(match[key].replace("@", ".")) for key in ("temperature", "penalty", "top_p")
    )
    try:
        sampling = Sampling(temperature=temperature, repetition_penalty=penalty, top_p=top_p)
    except RequestError:
        sampling = Sampling()
    seconds = min(max(int(match["ids"]) / (2 * FRAME_RATE), 1.0), MAX_SECTION_SECONDS)
    genre = match["tags"].replace("-", " ").replace("@", ".")
    return replace(source, genre=genre, sampling=sampling, segment_seconds=seconds)


def from_stems(
    codes: NDArray[np.int16], files: Sequence[Path], start: float, known: ImportFacts
) -> ImportedSong:
    """Two encoded stems [2, 8, T] that begin `start` seconds into their files. Raises RequestError."""
    return assemble(codes[:, 0], codes, Origin("stems", tuple(file.name for file in files), start), known)


def stem_window(start: float, take: float | None, frames: int) -> slice:
    """Window of the stems' `frames` to import. Raises RequestError for an empty one."""
    end = math.inf if take is None else start + take
    if not (math.isfinite(start) and 0 <= start < end):
        raise RequestError(f"the window {start:g}-{end:g} s is empty", "pass a --take above 0")
    span = whole_frames(start, end, frames)
    if span.start == span.stop:
        raise RequestError(
            f"the window {start:g}-{end:g} s holds nothing of the recording, which is "
            f"{frames / FRAME_RATE:g} s long",
            "pass an earlier --start or a longer --take",
        )
    return span


def npy_files(folder: SongFolder) -> dict[str, NDArray[np.uint32]]:
    """infer.py's files of a song: `stage1/…_vtrack.npy` [1, T] and, once refined, `stage2/…` [8, T].

    Raises RequestError when nothing is drafted yet, DamagedFile.
    """
    codes0, _ = _stage1_codes(folder)
    codes, name = _stage2_codes(folder), npy_name(folder.request, codes0)
    stages = {"stage1": codes0[:, None]} | ({"stage2": codes} if codes.size else {})
    return {
        f"{stage}/{name}_{mark}.npy": track.astype(np.uint32)
        for stage, tracks in stages.items()
        for mark, track in zip(TRACK_SUFFIXES, tracks, strict=True)
    }


def npy_name(request: SongRequest, codes0: NDArray[np.int16]) -> str:
    """infer.py's file name without the track: tags, settings and an id, here a hash of the song."""
    tags = _UNSAFE.sub("-", request.genre.strip()).encode()[:MAX_TAG_BYTES].decode(errors="ignore")
    used, ids = request.sampling, round(2 * FRAME_RATE * request.segment_seconds)
    digest = uuid.UUID(bytes=hashlib.sha256(codes0.tobytes()).digest()[:16], version=4)
    settings = f"tp{used.top_p}_T{used.temperature}_rp{used.repetition_penalty}_maxtk{ids}"
    return f"{tags}_{settings}_{digest}".replace(".", "@")


def write_npy_files(files: Mapping[str, NDArray[np.uint32]], target: Path) -> list[Path]:
    """Write the files of `npy_files` below a folder; returns their paths. Raises StorageError."""
    for name, codes in files.items():
        path = target / name
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        save_array(path, codes)
    return [target / name for name in files]


def to_project(folder: SongFolder) -> Project:
    """The song as a YuE-UI project. Raises RequestError when nothing is drafted yet, DamagedFile."""
    codes0, frames = _stage1_codes(folder)
    request = folder.request
    lyrics, names = yue_ui.their_lyrics(request)
    ends = [int(end) for end in np.cumsum(frames)]
    segments = tuple(Segment(*each) for each in zip(names, [0, *ends], ends, strict=False))
    notice = "the lyrics are written anew, as YuE-UI splits them into sections"
    return Project(
        request.genre,
        lyrics,
        segments,
        codes0,
        _stage2_codes(folder),
        request.sampling,
        request.segment_seconds,
        request.seed,
        () if lyrics == request.lyrics else (notice,),
    )


def _stage1_codes(folder: SongFolder) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    if not (folder.path / "stage1.npz").exists():
        raise RequestError(
            f"{folder.path} is not drafted yet", f"go on with: yuegguf resume {quoted(folder.path)}"
        )
    return folder.load_stage1()


def _stage2_codes(folder: SongFolder) -> NDArray[np.int16]:
    return folder.load_codes() if (folder.path / "stage2.npz").exists() else _no_codes()


def _no_codes() -> NDArray[np.int16]:
    return np.zeros((2, CODEBOOKS, 0), np.int16)
