"""Where a song is between request and finished files, and what it then is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.request.song_request import FinishedSection, Song
from yuegguf.song.folder import SongFolder, sections_of
from yuegguf.song.record import Phase


def where(folder: SongFolder) -> Phase | Literal["done"]:
    """Where to go on: the phase that song.json notes, or the one whose result is gone.

    "done" where all is there that was asked for, which may be a draft.
    """
    if folder.state == "draft" or not (folder.path / "stage1.npz").exists():
        return "draft"
    if folder.state == "refine" and folder.early.draft:
        return "done" if _there(folder, folder.record.draft_files) else "sketch"
    if folder.state == "refine" or not (folder.path / "stage2.npz").exists():
        return "refine"
    return folder.state if _there(folder, folder.record.files) else "master"


def _there(folder: SongFolder, names: Sequence[str]) -> bool:
    """Whether files that song.json notes are in the folder; false if it notes none."""
    return bool(names) and all((folder.path / name).exists() for name in names)


def finished(folder: SongFolder) -> Song:
    """The song of a folder whose files are written, or the draft where it rests."""
    frames = folder.load_stage1()[0].shape[1]
    names = folder.record.draft_files if folder.draft_complete else folder.record.files
    files = tuple(folder.path / name for name in names)
    sections = tuple(finished_sections(folder))
    return Song(folder.path, frames / FRAME_RATE, folder.request.seed, files, sections, folder.draft_complete)


def finished_sections(folder: SongFolder) -> list[FinishedSection]:
    """Where the sections of a drafted song lie."""
    labels = [section.label for section in folder.song.sections]
    _, frames = folder.load_stage1()
    complete = [bool(n < cap) for n, cap in zip(frames, folder.song.caps, strict=False)]
    return sections_of(labels, [int(n) for n in frames], complete, folder.record.faults)
