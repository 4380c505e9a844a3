"""Export of a song folder's codes as files of other tools."""

from __future__ import annotations

from pathlib import Path

from yuegguf.exchange import convert
from yuegguf.exchange.yue_ui import format_project
from yuegguf.files.atomic import refuse_to_replace, replacing, storage_errors
from yuegguf.progress import Event, Progress
from yuegguf.song.folder import SongFolder


def write_npy_files(folder: SongFolder, target: Path, force: bool) -> tuple[Path, ...]:
    """Write infer.py's .npy files below `target`; returns their paths. Raises YueError."""
    files = convert.npy_files(folder)
    refuse_to_replace([target / name for name in files], force)
    return tuple(convert.write_npy_files(files, target))


def write_project(folder: SongFolder, target: Path, force: bool, progress: Progress) -> tuple[Path, ...]:
    """Write a project of YuE-UI into `target`; what changes in it comes as a warning. Raises YueError."""
    project = convert.to_project(folder)
    for notice in project.notices:
        progress(Event("export", 0, 1, warning=notice))
    file = target / f"{folder.path.resolve().name}.json"
    refuse_to_replace([file], force)
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    with replacing(file) as beside:
        beside.write_bytes(format_project(project))
    return (file,)
