"""Songs from songs: several takes of one request, and a song that goes on from another.

Takes lie in one folder, each a song folder of its own: `take-1`, `take-2`, …
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf import pipeline, runtime
from yuegguf.base import save_base
from yuegguf.early import Early
from yuegguf.errors import RequestError, YueError
from yuegguf.extend import Continuation, Extension, Sung, extend
from yuegguf.files import storage_errors
from yuegguf.models import Models, check_same
from yuegguf.plan import Machine
from yuegguf.progress import Progress
from yuegguf.request import Song, SongRequest
from yuegguf.song import SongFolder, new_path

Source = tuple[Continuation, NDArray[np.int16] | None]
"""What a song goes on from, and the codes of its reference."""
MOST = 16
"""Takes at once."""


def start(
    request: SongRequest,
    models: Models,
    parent: Path,
    name: str | None,
    options: Machine,
    count: int,
    early: Early | None = None,
) -> list[SongFolder]:
    """Folders of `count` takes of a request, once everything is checked; takes rest after their drafts.

    Raises YueError.
    """
    _check_count(count)
    request, facts = runtime.prepared(request, models, parent, name, options, _drafts(early, count), count)
    return _folders(new_path(parent, facts["title"]), request, facts, count, None)


def start_extension(
    song: SongFolder,
    wanted: Extension,
    models: Models,
    parent: Path,
    name: str | None,
    options: Machine,
    count: int = 1,
) -> list[SongFolder]:
    """Folders of `count` takes of a song that goes on from another, which stays as it is. Raises YueError."""
    _check_count(count)
    continuation = extend(read_sung(song), wanted)
    title = name or str(song.fact("title") or song.request.genre.strip())
    early = _drafts(None, count)
    request, facts = runtime.prepared(continuation.request, models, parent, title, options, early, count)
    facts["from"] = {"folder": song.path.name, "seed": song.request.seed}
    source = continuation, song.load_reference()
    return _folders(new_path(parent, title), request, facts, count, source)


def read_sung(song: SongFolder) -> Sung:
    """What is there of a song whose draft is done. Raises RequestError where it is not."""
    if pipeline.next_phase(song) == "draft":
        raise RequestError(f"{song.path} is still being drafted", f"run first: yuegguf resume {song.path}")
    track = song.request.track
    if track is not None and track.file is not None:
        raise RequestError(
            f"{song.path} is as long as the recording that it was made to", "make it anew with a longer one"
        )
    codes0, frames = song.load_stage1()
    refined = (song.path / "stage2.npz").exists()
    codes = song.load_stage2() if refined else codes0[:, None]
    return Sung(song.request, frames.tolist(), codes)


def _drafts(early: Early | None, count: int) -> Early:
    """Takes are drafts, from which some are chosen."""
    early = early or Early()
    return early if count == 1 or early.draft else replace(early, draft="mix")


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST:
        raise RequestError(f"{count} takes are not offered", f"use 1 to {MOST}")


def _folders(
    path: Path,
    request: SongRequest,
    facts: dict[str, Any],
    count: int,
    source: Source | None,
) -> list[SongFolder]:
    """One folder, or one with a folder for each take in it; nothing is left behind where that fails."""
    places = [path] if count == 1 else [path / f"take-{number}" for number in range(1, count + 1)]
    found = []
    try:
        for number, place in enumerate(places, 1):
            asked = request if count == 1 else replace(request, take=number)
            found.append(runtime.created(place, asked, facts))
            if source:
                _begin(found[-1], *source)
    except YueError:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return found


def _begin(folder: SongFolder, continuation: Continuation, reference: NDArray[np.int16] | None) -> None:
    """Put what the song goes on from into its folder."""
    save_base(folder.path, continuation.base)
    if reference is not None:
        folder.save_reference(reference)
    with closing(folder.token_log()) as log:
        for section, codes in enumerate(continuation.draws):
            for code in codes:
                log.draw(section, code)


def of(folder: Path) -> list[SongFolder]:
    """The takes in a folder, by their number; none where it holds none. Raises DamagedFile."""
    numbered = [(int(m[1]), p.parent) for p in folder.glob("take-*/song.json") if (m := _number(p.parent))]
    return [SongFolder.open(path) for _, path in sorted(numbered)]


def _number(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"take-(\d+)", path.name)


def chosen(folder: Path, numbers: Sequence[int]) -> tuple[list[SongFolder], list[SongFolder]]:
    """The takes of these numbers, and the others. Raises RequestError for a number that is not there."""
    takes = {int(match[1]): take for take in of(folder) if (match := _number(take.path))}
    if not takes:
        raise RequestError(f"{folder} holds no takes", "pass a folder that run -n made")
    for number in numbers:
        if number not in takes:
            raise RequestError(f"there is no take {number} in {folder}", f"use {', '.join(map(str, takes))}")
    return [takes[n] for n in numbers], [take for n, take in takes.items() if n not in numbers]


def delete(takes: Sequence[SongFolder]) -> None:
    """Delete these takes. Raises StorageError."""
    for take in takes:
        with storage_errors(take.path):
            shutil.rmtree(take.path)


def draft(
    folders: Sequence[SongFolder],
    models: Models,
    options: Machine,
    progress: Progress,
    stop: threading.Event | None,
) -> list[Song]:
    """Draft takes side by side, and write their drafts; calling it again goes on.

    Raises YueError, with their folder in it.
    """
    parent = folders[0].path.parent if len(folders) > 1 else folders[0].path
    try:
        for folder in folders:
            check_same(folder, models)
        made = runtime.revised_plan(folders[0], models, options)
        parts = runtime.real_parts(models, made, options, stop or threading.Event())
        pipeline.draft_together(folders, made, parts, runtime.stopping(progress, stop))
        return [runtime.go_on(folder, models, options, progress, stop) for folder in folders]
    except YueError as error:
        error.folder = parent
        raise


def frames(take: SongFolder) -> int | None:
    """Frames of a take whose draft is done."""
    if pipeline.next_phase(take) == "draft":
        return None
    return int(np.asarray(take.load_stage1()[1]).sum())
