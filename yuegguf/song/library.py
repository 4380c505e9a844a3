"""The songs of a folder: their state, what comes next, and their removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import DamagedFile, RequestError, YueError, argument
from yuegguf.files.atomic import storage_errors
from yuegguf.files.steady import check_steady, steady
from yuegguf.song.folder import SongFolder, claimed_folder
from yuegguf.song.guard import FILE_NAMES, FOLDER_NAMES, check_entries
from yuegguf.song.lease import is_in_work
from yuegguf.song.lookup import check_parent, song_folders
from yuegguf.song.state import where


@dataclass(frozen=True)
class SongSummary:
    """State of a song folder."""

    folder: Path
    title: str = ""
    state: str = ""
    """Phase that comes next, "draft done" or "done"; "damaged" for a folder that cannot be opened."""
    busy: bool = False
    """Whether a process, or a machine of a cluster, works on it."""
    seconds: float | None = None
    """Length of the music; None before the draft is done."""
    seed: int | None = None
    sections: int = 0
    faults: dict[str, str] | None = None
    """Number of a section from 1 → its fault."""
    problem: str = ""
    """Reason why a folder cannot be opened."""

    @property
    def next_command(self) -> tuple[str, ...]:
        """Arguments of `yuegguf` that go on with the song; empty where nothing is left to do."""
        if self.busy or self.state == "damaged":
            return ()
        if self.state == "draft done":
            return ("refine", argument(self.folder))
        if self.state != "done":
            return ("resume", argument(self.folder))
        if self.faults:
            return ("extend", argument(self.folder), "--retake", min(self.faults, key=int), "--keep-after")
        return ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the folder as text."""
        return {**asdict(self), "folder": str(self.folder), "next": list(self.next_command)}


def list_songs(parent: Path) -> list[SongSummary]:
    """All songs and takes of a folder, by name. Raises RequestError where there is no such folder."""
    check_parent(parent)
    return [summarise(folder) for folder in sorted(song_folders(parent))]


def summarise(folder: Path, *, busy: bool | None = None) -> SongSummary:
    """The state of a song folder; a damaged one has its reason. `busy` spares the look at its lock."""
    try:
        song = SongFolder.open(folder)
        phase = where(song)
        frames = None if phase == "draft" else int(song.load_section_frames().sum())
        sections = len(song.song.sections)
    except YueError as error:
        return SongSummary(folder, state="damaged", problem=error.message)
    return SongSummary(
        folder,
        song.title,
        "draft done" if song.draft_complete and phase == "done" else phase,
        is_in_work(folder) if busy is None else busy,
        None if frames is None else frames / FRAME_RATE,
        song.request.seed,
        sections,
        dict(song.record.faults),
    )


def remove_songs(
    folders: Sequence[Path],
    *,
    force: bool = False,
    damaged: bool = False,
    wanted: Callable[[Path], bool] = lambda folder: True,
) -> None:
    """Delete song folders, all or none; files that yuegguf did not make there are refused without `force`.

    `wanted` is asked while no other process can change a folder; one that it denies stays. Songs that
    cannot be opened are refused without `damaged`, and unsafe folders always (DamagedFile). Raises
    RequestError too, and StorageError for a song on which a process works.
    """
    for folder in folders:
        _check_removable(folder, damaged)
    with ExitStack() as held:
        for folder in folders:
            with storage_errors(folder):
                held.enter_context(steady(folder))
        with ExitStack() as claims:
            for folder in folders:
                claims.enter_context(claimed_folder(folder))
                _check_removable(folder, damaged)  # another process may have changed it
                foreign = sorted(set(os.listdir(folder)) - FILE_NAMES - FOLDER_NAMES)
                if foreign and not force:
                    raise RequestError(
                        f"{folder} holds {foreign[0]!r:.80}, which yuegguf did not make",
                        "move it elsewhere, or use: yuegguf songs rm --force",
                    )
            chosen = [folder for folder in folders if wanted(folder)]
        for folder in chosen:
            check_steady(folder)
            with storage_errors(folder):
                shutil.rmtree(folder)


def _check_removable(folder: Path, damaged: bool) -> None:
    """Refuse a folder that is no song's or not safe, and unless `damaged` one that cannot be opened."""
    try:
        SongFolder.open(folder)
    except DamagedFile as error:
        check_entries(folder)
        if not damaged:
            hint = "restore it from a copy, or delete it with: yuegguf songs rm --force"
            raise DamagedFile(error.message, hint) from error
