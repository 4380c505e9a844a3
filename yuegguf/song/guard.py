"""Checks of a song folder, which may come from somebody else: plain files and folders, no links out of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from yuegguf.errors import DamagedFile
from yuegguf.files.reading import read_errors
from yuegguf.song.record import AUDIO_FILES, TEXT_FILES

FOLDER_NAMES = frozenset({"chunks", "cache", "export", "lease"})
FILE_NAMES = AUDIO_FILES | {
    *("song.json", "tokens.log", "reference.npz", "base.npz", "track.npz", "stage1.npz", "stage2.npz"),
    *(*TEXT_FILES, "preview.wav", "plot.png", ".lock"),
}
"""Names that yuegguf reads, writes or deletes; other files in a song folder are never touched."""
TAKE_NAME = re.compile(r"take-[1-9]\d{0,5}")
MAX_DEPTH = 2
"""Levels below a folder of FOLDER_NAMES that are checked: cache/SNAPSHOT/, export/stage1/, lease/NUMBER/."""


def check_entries(folder: Path) -> None:
    """Refuse a song folder in which a name of FILE_NAMES or FOLDER_NAMES leads out of it or is no plain file.

    Raises DamagedFile.
    """
    root = folder.resolve()
    with read_errors(folder):
        for entry in _entries(root):
            if entry.name in FILE_NAMES:
                _check(Path(entry.path), root, is_folder=False)
            elif entry.name in FOLDER_NAMES:
                _check(Path(entry.path), root, is_folder=True)
                for path, is_folder in _below(Path(entry.path), MAX_DEPTH):
                    _check(path, root, is_folder)


def _below(folder: Path, depth: int) -> Iterator[tuple[Path, bool]]:
    """Every path below a folder, and whether it is a folder; links are not followed."""
    for entry in _entries(folder):
        is_folder = entry.is_dir()
        yield Path(entry.path), is_folder
        if is_folder and depth and not entry.is_symlink():
            yield from _below(Path(entry.path), depth - 1)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _check(path: Path, root: Path, is_folder: bool) -> None:
    hint = "it is not safe to use this folder; nothing was changed"
    if path.is_symlink() and not _stays_inside(path, root):
        raise DamagedFile(f"{path} is a link that leads out of the song folder", hint)
    if not (path.is_dir() if is_folder else path.is_file()):
        raise DamagedFile(f"{path} is not a {'folder' if is_folder else 'file'}", hint)


def _stays_inside(link: Path, root: Path) -> bool:
    """Whether a link leads to an existing path inside the folder."""
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # a dangling link, or links in a circle
        return False
