"""State of a song: the phase to continue with, and the finished song."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yuegguf.audio.containers import is_cut_short
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.request.fit import lines_in_time
from yuegguf.request.song_request import FinishedSection, Song
from yuegguf.song.folder import SongFolder, sections_of
from yuegguf.song.record import Phase


def where(folder: SongFolder) -> Phase:
    """Phase to continue with: the one in song.json, or an earlier one whose result is missing.

    "done" when the requested files exist and are not cut short, those of a draft included.
    """
    if folder.state == "draft" or not (folder.path / "stage1.npz").exists():
        return "draft"
    if folder.state == "refine" and folder.early.draft:
        return "done" if _whole(folder, folder.record.draft_files) else "sketch"
    if folder.state == "refine" or not (folder.path / "stage2.npz").exists():
        return "refine"
    return folder.state if _whole(folder, folder.record.files) else "master"


def _whole(folder: SongFolder, names: Sequence[str]) -> bool:
    """Whether the files named in song.json exist and are not cut short; false if it names none."""
    return bool(names) and not any(is_cut_short(folder.path / name) for name in names)


def finished(folder: SongFolder) -> Song:
    """The finished song of a folder, or its draft. Raises DamagedFile."""
    frames = folder.load_stage1()[0].shape[1]
    names = folder.record.draft_files if folder.draft_complete else folder.record.files
    files = tuple(folder.path / name for name in names)
    sections = tuple(finished_sections(folder))
    return Song(folder.path, frames / FRAME_RATE, folder.request.seed, files, sections, folder.draft_complete)


def finished_sections(folder: SongFolder) -> list[FinishedSection]:
    """Sections of a drafted song, with their times. Raises DamagedFile."""
    labels = [section.label for section in folder.song.sections]
    _, frames = folder.load_stage1()
    complete = [bool(n < cap) for n, cap in zip(frames, folder.song.caps, strict=False)]
    kept = folder.load_kept_part()
    if kept is not None:
        complete = kept.completeness(complete)
    sections = sections_of(labels, [int(n) for n in frames], complete, folder.record.faults)
    return [
        replace(section, lost_lines=lost)
        for section, (_, lost) in zip(sections, _generated(folder, sections), strict=True)
    ]


def generated_bodies(folder: SongFolder, sections: Sequence[FinishedSection]) -> list[str]:
    """The lines of each section, without those that it had no time for."""
    return ["\n".join(lines) for lines, _ in _generated(folder, sections)]


def _generated(folder: SongFolder, sections: Sequence[FinishedSection]) -> list[tuple[list[str], int]]:
    """The lines of each section that are generated, and how many at its end are not."""
    request = folder.request
    voiced = request.track is None or request.track.track != "vocal"
    return [
        (written.body.splitlines(), 0)
        if section.complete or not voiced
        else lines_in_time(written, section.seconds, request.genre)
        for section, written in zip(sections, folder.song.sections, strict=False)
    ]
