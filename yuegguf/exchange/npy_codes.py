"""Codes in files: our song folder, the official `*_vtrack.npy`/`*_itrack.npy` pair, YuE-exllamav2's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import Track
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files.arrays import check_codes, load_array, save_array
from yuegguf.song.folder import SongFolder

TRACK_SUFFIXES = ("vtrack", "itrack")
"""Suffixes of the vocal and the instrumental file, of upstream and exl2."""


def read_codes(paths: Sequence[Path]) -> NDArray[np.int16]:
    """A song folder, a folder with a track pair, or the two files → codes [2, 8, T].

    Tracks of different length are cut to the shorter. Raises RequestError, DamagedFile.
    """
    if len(paths) == 1 and (paths[0] / "song.json").is_file():
        return SongFolder.open(paths[0]).load_stage2()
    vocal, instrumental = _find_pair(paths)
    tracks = [read_track(vocal), read_track(instrumental)]
    frames = min(track.shape[1] for track in tracks)
    return np.stack([track[:, :frames] for track in tracks])


def read_pair(paths: Sequence[Path]) -> tuple[list[Path], list[NDArray[np.int16]]]:
    """Both files of a track pair of either stage and their codes [1 or 8, T], vocal first.

    Tracks keep their lengths. Raises RequestError, DamagedFile.
    """
    files = list(_find_pair(paths))
    tracks = [_read_npy(file) for file in files]
    if len(tracks[0]) != len(tracks[1]):
        raise DamagedFile(
            f"{files[0].name} and {files[1].name} come from different stages", "pass two files of one stage"
        )
    return files, tracks


def read_track(path: Path) -> NDArray[np.int16]:
    """One track's codes [8, T] from an .npy. Raises RequestError, DamagedFile."""
    codes = _read_npy(path)
    if len(codes) == 1:
        raise DamagedFile(
            f"{path.name} holds codebook 0 only: it comes from stage 1", "pass the files of stage 2"
        )
    return codes


def _read_npy(path: Path) -> NDArray[np.int16]:
    """A track of either stage [1 or 8, T]."""
    if path.is_dir():
        raise RequestError(f"{path} is a folder, not an .npy file", "pass one folder alone, or two files")
    if not path.is_file():
        raise RequestError(f"there is no file {path}", "pass a song folder or .npy files of codes")
    codes = load_array(path)
    if codes.ndim == 3 and codes.shape[0] == 1:
        codes = codes[0]
    check_codes(codes, (1 if codes.ndim == 2 and len(codes) == 1 else 8, None), path.name)
    return codes.astype(np.int16)


def track_from_name(path: Path) -> Track:
    """Track of a file of codes by its name; the vocal by default.

    YuE's own suffix decides, since its names begin with the genre: `instrumental-rock_…_vtrack.npy`.
    """
    name = path.stem.lower()
    if TRACK_SUFFIXES[0] in name:
        return "vocal"
    return "instrumental" if TRACK_SUFFIXES[1] in name or "inst" in name else "vocal"


def write_track(path: Path, codes: NDArray[np.int16]) -> None:
    """Write codes [K, T] as YuE does: a plain int16 .npy. Raises StorageError."""
    save_array(path, codes.astype(np.int16))


def _find_pair(paths: Sequence[Path]) -> tuple[Path, Path]:
    """The vocal and the instrumental file among paths or in a folder."""
    if len(paths) == 1 and paths[0].is_dir():
        found = sorted([*paths[0].glob("*.npy"), *paths[0].glob("stage2/*.npy")])
        found = found or sorted(paths[0].glob("stage1/*.npy"))
        tracks = [[file for file in found if mark in file.name] for mark in TRACK_SUFFIXES]
        if any(len(files) != 1 for files in tracks):
            raise RequestError(
                f"{paths[0]} does not hold one *vtrack.npy and one *itrack.npy",
                "pass a song folder, or name the two files",
            )
        return tracks[0][0], tracks[1][0]
    if len(paths) == 2:
        swapped = TRACK_SUFFIXES[1] in paths[0].name and TRACK_SUFFIXES[0] in paths[1].name
        return (paths[1], paths[0]) if swapped else (paths[0], paths[1])
    if len(paths) == 1 and not paths[0].exists():
        raise RequestError(f"there is no file or folder {paths[0]}", "check the name")
    raise RequestError(
        "codes of both tracks are needed", "pass a song folder, or the vocal and the backing file"
    )
