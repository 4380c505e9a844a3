"""The codes, sections and recording that the files of a song are made from, and its text files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yuegguf import marks
from yuegguf.codec.base import SONG_HOP
from yuegguf.errors import DamagedFile
from yuegguf.marks import marks_of
from yuegguf.output import Extra
from yuegguf.request import GivenTrack, SungSection
from yuegguf.song import SongFolder, sections_of
from yuegguf.stages import render


def sung_sections(folder: SongFolder) -> list[SungSection]:
    """Where the sections of a drafted song lie."""
    labels = [section.label for section in folder.request.parsed().sections]
    _, frames = folder.load_stage1()
    complete = [bool(n < cap) for n, cap in zip(frames, folder.request.frame_caps(), strict=False)]
    return sections_of(labels, [int(n) for n in frames], complete, folder.record.faults)


def row_of(track: GivenTrack) -> int:
    """Its row among codes and stems."""
    return render.TRACKS.index(track.track)


def whole_codes(folder: SongFolder) -> NDArray[np.int16]:
    """Codes [2, 8, T] of a refined song. Raises RequestError where it is not, DamagedFile."""
    codes, (codes0, _) = folder.load_stage2(), folder.load_stage1()
    if not np.array_equal(codes[:, 0], codes0):
        raise DamagedFile(
            f"{folder.path / 'stage2.npz'} does not belong to stage1.npz",
            "delete stage2.npz and resume to make it again",
        )
    return codes


def extra_of(folder: SongFolder, frames: int) -> Extra:
    """What goes into a drafted song's files beside its codes. Raises DamagedFile."""
    return Extra(_recording(folder, frames), marks_of(sung_sections(folder)))


def _recording(folder: SongFolder, frames: int) -> render.Recording | None:
    """The given track of a song as it is heard, or None. Raises DamagedFile."""
    wanted, kept = folder.request.track, folder.load_track()
    if wanted is None or wanted.re_encode or kept is None:
        return None
    wave = kept[1]
    return render.Recording(row_of(wanted), None if wave is None else wave[: SONG_HOP * frames])


def write_marks(folder: SongFolder) -> None:
    """Write markers.txt and lyrics.lrc of a drafted song. Raises StorageError."""
    bodies = [section.body for section in folder.request.parsed().sections]
    marks.write(folder.path, sung_sections(folder), bodies, title_of(folder))


def title_of(folder: SongFolder) -> str:
    """The title for tags and lyrics."""
    return folder.record.title or folder.request.genre
