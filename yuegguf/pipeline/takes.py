"""Songs from songs: several takes of one request, and a song that goes on from another.

Takes lie in one folder, each a song folder of its own: `take-1`, `take-2`, …
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import DamagedFile, RequestError, YueError, quoted
from yuegguf.files.atomic import storage_errors, workspace
from yuegguf.files.field_types import whole_number
from yuegguf.models.resolve import Models
from yuegguf.pipeline import create
from yuegguf.pipeline.extend import Continuation, DraftedSong, ExtendRequest, extend
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Progress, ProgressSum, silent
from yuegguf.request.prepared import prepare
from yuegguf.request.ranges import MOST_TAKES
from yuegguf.request.song_request import Song, SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.guard import TAKE_NAME
from yuegguf.song.kept_part import write_kept_part
from yuegguf.song.lookup import new_song_path
from yuegguf.song.record import ContinuedFrom, Phase, SongRecord
from yuegguf.song.state import finished_sections, where
from yuegguf.song.token_log import TokenLog


def several(takes: int) -> int:
    """A number of takes that is several. Raises RequestError for another one."""
    number = whole_number("takes", takes)
    if number < 2:
        raise RequestError(f"{number} takes are not several", "use 2 to 16, or generate one song")
    return number


def start(job: SongJob, named: Callable[[Path], None] = lambda path: None) -> list[SongFolder]:
    """Folders of a job's takes, once everything is checked; takes stop after their drafts.

    `named` is called with the folder's path before it is there. Raises YueError.
    """
    job = _drafted(job)
    record = create.new_record(job)
    path = new_song_path(job.parent, record.title)
    named(path)
    return _folders(path, record, job.takes)


def start_extension(
    song: SongFolder,
    wanted: ExtendRequest,
    job: SongJob,
    progress: Progress = silent,
    named: Callable[[Path], None] = lambda path: None,
) -> list[SongFolder]:
    """Folders of takes that go on from `song`, which stays as it is; the job's own song is not used.

    Without a name in the job they get the song's title. How new lyrics were interpreted comes as warnings
    through `progress`. `named` is called as `start` does. Raises YueError.
    """
    drafted = drafted_song(song)
    continuation = extend(drafted, wanted)
    create.warn_each([*_dropped(wanted, len(drafted.frames)), *continuation.notices], progress)
    prepared = prepare(continuation.request)
    if continuation.request.lyrics != song.request.lyrics:
        create.warn_each(prepared.notices, progress)
    prepared = replace(prepared, caps=tuple(continuation.base.caps(prepared.caps)))
    job = replace(job, song=prepared, name=(job.name or "").strip() or song.title.strip())
    job, reference = _drafted(job), _reference(song)
    record = create.new_record(job, song.request.output, reference)
    record = record.changed(
        origin=ContinuedFrom(folder=song.path.resolve().name, seed=song.request.seed),
        imported=song.record.imported,
        faults=_kept_faults(song.record.faults, drafted.frames, continuation, len(prepared.caps)),
    )
    path = new_song_path(job.parent, record.title)
    named(path)
    return _folders(path, record, job.takes, continuation, reference)


def _kept_faults(
    faults: Mapping[str, str], frames: Sequence[int], continuation: Continuation, count: int
) -> dict[str, str]:
    """Those of a song's faults in whole sections, of these frames, that `count` sections of another keep."""
    base = continuation.base
    kept = [n for n in range(base.prefix.sections) if base.frames[n] == frames[n]]
    kept += range(count - len(base.after_frames), count)
    return {number: sentence for number, sentence in faults.items() if int(number) - 1 in kept}


def _dropped(wanted: ExtendRequest, count: int) -> list[str]:
    """A notice of the sections, of `count`, that a retake drops."""
    if wanted.retake is None or wanted.keep_after or wanted.retake >= count:
        return []
    first = wanted.retake + 1
    words = f"section {first} is" if first == count else f"sections {first} to {count} are"
    return [f"{words} left out of the new song; --keep-after keeps what follows"]


def _reference(song: SongFolder) -> NDArray[np.int16] | None:
    """The codes of a song's reference. Raises DamagedFile where they are gone."""
    codes = song.load_reference()
    if codes is None and song.request.reference is not None:
        raise DamagedFile(
            f"{song.path} has lost the codes of its reference", "restore its reference.npz from a copy"
        )
    return codes


def drafted_song(song: SongFolder) -> DraftedSong:
    """Codes and sections of a song whose draft is done. Raises RequestError where it is not."""
    if where(song) == "draft":
        raise RequestError(
            f"{song.path} is still being drafted", f"run first: yuegguf resume {quoted(song.path)}"
        )
    track = song.request.track
    if track is not None and track.file is not None:
        raise RequestError(
            f"{song.path} is as long as the recording that it was made to", "make it anew with a longer one"
        )
    codes0, frames = song.load_stage1()
    if len(frames) > (count := len(song.song.sections)):
        raise DamagedFile(
            f"{song.path / 'stage1.npz'} has {len(frames)} sections, and the song's lyrics have {count}",
            "restore it from a copy, or start the song again",
        )
    refined = (song.path / "stage2.npz").exists()
    codes = song.load_codes() if refined else codes0[:, None]
    complete = [section.complete for section in finished_sections(song)]
    return DraftedSong(song.request, frames.tolist(), codes, complete)


def _drafted(job: SongJob) -> SongJob:
    """The job, whose takes are drafts if there are several. Raises RequestError for too many."""
    if not 1 <= job.takes <= MOST_TAKES:
        raise RequestError(f"{job.takes} takes are not offered", f"use 1 to {MOST_TAKES}")
    if job.takes == 1 or job.preview.draft:
        return job
    return replace(job, preview=replace(job.preview, draft="mix"))


def _folders(
    path: Path,
    record: SongRecord,
    count: int,
    continuation: Continuation | None = None,
    reference: NDArray[np.int16] | None = None,
) -> list[SongFolder]:
    """One folder, or one with a folder for each take in it; it appears whole or not at all."""
    names = [""] if count == 1 else [f"take-{number}" for number in range(1, count + 1)]
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with workspace(path.parent) as beside:
            for number, name in enumerate(names, 1):
                asked = record.request if count == 1 else replace(record.request, take=number)
                title = record.title if count == 1 else f"{record.title}, take {number}"
                own = record.changed(request=asked, title=title)
                made = create.created(beside / path.name / name, own, reference)
                if continuation is not None:
                    _begin(made, continuation)
            (beside / path.name).rename(path)
    try:
        return [SongFolder.open(path / name) for name in names]
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _begin(folder: SongFolder, continuation: Continuation) -> None:
    """Put what the song goes on from into its folder."""
    write_kept_part(folder.path, continuation.base)
    with closing(TokenLog.open(folder.path / "tokens.log")) as log:
        for section, codes in enumerate(continuation.draws):
            for code in codes:
                log.append(section, code)


def folders(folder: Path) -> list[Path]:
    """The folders of the takes in a folder, by their number; none where it holds none. Raises DamagedFile."""
    places = [
        file.parent for file in folder.glob("take-*/song.json") if TAKE_NAME.fullmatch(file.parent.name)
    ]
    for place in places:
        if place.is_symlink():
            raise DamagedFile(f"{place} is a link to another folder", "remove it; nothing was changed")
    return sorted(places, key=number_of)


def of(folder: Path) -> list[SongFolder]:
    """The takes in a folder, by their number; none where it holds none. Raises DamagedFile."""
    return [SongFolder.open(place) for place in folders(folder)]


def number_of(take: Path) -> int:
    """The number in the name of a take's folder."""
    return int(take.name.removeprefix("take-"))


def chosen(folder: Path, numbers: Sequence[int]) -> tuple[list[SongFolder], list[SongFolder]]:
    """The takes of these numbers, and the others. Raises RequestError for a number that is not there."""
    takes = {number_of(take.path): take for take in of(folder)}
    if not takes:
        raise RequestError(f"{folder} holds no takes", "pass a folder that run -n made")
    for number in numbers:
        if number not in takes:
            raise RequestError(f"there is no take {number} in {folder}", f"use {', '.join(map(str, takes))}")
    return [takes[n] for n in numbers], [take for n, take in takes.items() if n not in numbers]


def kept(folder: Path, numbers: Sequence[int]) -> tuple[list[SongFolder], list[SongFolder]]:
    """The takes to keep, by their numbers, and the others.

    Raises RequestError for no number, one that is repeated and one that is not there.
    """
    if not numbers:
        raise RequestError("no take is chosen", "pass the number of each take to keep")
    if len(set(numbers)) < len(numbers):
        raise RequestError(
            f"a take is chosen twice ({', '.join(map(str, numbers))})", "pass each number once"
        )
    return chosen(folder, numbers)


def draft(
    folders: Sequence[SongFolder],
    models: Models,
    options: ComputeOptions,
    progress: Progress,
    stop: threading.Event | None,
) -> list[Song]:
    """Draft takes side by side, and write their drafts; calling it again goes on.

    Raises YueError, with their folder in it.
    """
    parent = folders[0].path.parent if len(folders) > 1 else folders[0].path
    report = ProgressSum(progress, len(folders), "takes")
    works = [
        SongWork(folder, models, options, report.part(number, f"take {number + 1}"))
        for number, folder in enumerate(folders)
    ]
    scheduler = Scheduler(stop=stop)
    scheduler.submit(*works)
    scheduler.run()
    try:
        return [work.result() for work in works]
    except YueError as error:
        error.folder = parent
        raise


@dataclass(frozen=True)
class Take:
    """A take in a folder of takes."""

    folder: Path
    number: int
    """Number for `keep_takes`, from 1."""
    state: Phase
    """Phase that comes next; "draft" where the draft is done too, until the take is kept."""
    seconds: float | None
    """Length; None = its draft is not done."""
    request: SongRequest


def facts(folder: Path) -> tuple[Take, ...]:
    """The takes in a folder, by their number. Raises RequestError where it holds none, DamagedFile."""
    return tuple(
        Take(
            take.path,
            number_of(take.path),
            "draft" if take.draft_complete else where(take),
            None if (count := frames(take)) is None else count / FRAME_RATE,
            take.request,
        )
        for take in chosen(folder, [])[1]
    )


def frames(take: SongFolder) -> int | None:
    """Frames of a take whose draft is done."""
    if where(take) == "draft":
        return None
    return int(take.load_section_frames().sum())
