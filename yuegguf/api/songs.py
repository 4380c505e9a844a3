"""Generation of songs: a new one, the rest of one, its audio files again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from yuegguf.errors import RequestError, quoted
from yuegguf.models.resolve import CODEC_IDENTITY_FILE, ModelChoice
from yuegguf.pipeline import create, rendering
from yuegguf.pipeline import takes as takes_of
from yuegguf.pipeline.engines import open_codec
from yuegguf.pipeline.extend import ExtendRequest
from yuegguf.pipeline.run import run_song
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_models import describe_file, models_of_song
from yuegguf.pipeline.takes import Take
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Progress, silent
from yuegguf.request.preview_options import PreviewOptions, without_draft
from yuegguf.request.song_request import Output, Song, SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.library import remove_songs
from yuegguf.song.markers import repaired_song
from yuegguf.song.state import finished, where


def generate(
    request: SongRequest,
    models: ModelChoice | None = None,
    output_dir: Path | str = "songs",
    *,
    name: str | None = None,
    compute: ComputeOptions | None = None,
    preview: PreviewOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Make a song: a new folder in `output_dir` with mix, stems and everything to go on from.

    `preview` gives audio before the end: a preview during stage 1, or a draft that `refine` goes on with.
    Setting `stop` from another thread or a signal handler ends the work within a token with
    Interrupted; `resume` goes on. What had to be interpreted in the lyrics comes as warnings through
    `progress`. Raises YueError.
    """
    options = compute or ComputeOptions()
    song, found = create.prepare_song(request, models or ModelChoice(), progress)
    job = SongJob(song, found, Path(output_dir), name, options, preview or PreviewOptions())
    return run_song(create.start(job), found, options, progress, stop)


def resume(
    folder: Path | str,
    models: ModelChoice | None = None,
    *,
    compute: ComputeOptions | None = None,
    preview_seconds: float | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Go on with an interrupted song at the exact token, to where it was asked to go. Raises YueError.

    A song that was asked for its draft stops there again; `refine` takes it further. `preview_seconds`
    replaces the song's own (0 = no preview).
    """
    opened = SongFolder.open(Path(folder))
    if where(opened) == "done":
        return repaired_song(opened)  # its models may be gone

    def early(before: PreviewOptions) -> PreviewOptions:
        return before if preview_seconds is None else replace(before, preview_seconds=preview_seconds)

    found = models_of_song(opened, models)
    return run_song(opened, found, compute or ComputeOptions(), progress, stop, early=early)


def refine(
    folder: Path | str,
    models: ModelChoice | None = None,
    *,
    compute: ComputeOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Take a song whose draft is done to its end. Raises YueError."""
    opened = SongFolder.open(Path(folder))
    _check_drafted(opened)
    found, options = models_of_song(opened, models), compute or ComputeOptions()
    return run_song(opened, found, options, progress, stop, early=without_draft)


def _check_drafted(song: SongFolder) -> None:
    if where(song) == "draft":
        raise RequestError(
            f"{song.path} is still in its draft", f"finish it with: yuegguf resume {quoted(song.path)}"
        )


def extend(
    song: Path | str,
    request: ExtendRequest,
    models: ModelChoice | None = None,
    output_dir: Path | str | None = None,
    *,
    name: str | None = None,
    compute: ComputeOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Make a new song that begins with another one and goes on, or that has a part of it generated again.

    The folder `song` stays as it is; the new one goes into `output_dir`, None = beside it. Raises YueError.
    """
    old, options = SongFolder.open(Path(song)), compute or ComputeOptions()
    job = _extension_job(old, models, output_dir, name, options)
    return run_song(
        takes_of.start_extension(old, request, job, progress)[0], job.models, options, progress, stop
    )


def draft_takes(
    request: SongRequest,
    takes: int,
    models: ModelChoice | None = None,
    output_dir: Path | str = "songs",
    *,
    name: str | None = None,
    compute: ComputeOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[Song, ...]:
    """Draft 2 to 16 takes of a request side by side, each a folder in a new one; `keep_takes` finishes some.

    Interrupted, `resume_takes` goes on. Raises YueError.
    """
    options, takes = compute or ComputeOptions(), takes_of.several(takes)
    song, found = create.prepare_song(request, models or ModelChoice(), progress)
    job = SongJob(song, found, Path(output_dir), name, options, takes=takes)
    return tuple(takes_of.draft(takes_of.start(job), found, options, progress, stop))


def draft_extensions(
    song: Path | str,
    request: ExtendRequest,
    takes: int,
    models: ModelChoice | None = None,
    output_dir: Path | str | None = None,
    *,
    name: str | None = None,
    compute: ComputeOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[Song, ...]:
    """Draft 2 to 16 takes of an extension side by side, as `draft_takes` does; else as `extend`."""
    old, options = SongFolder.open(Path(song)), compute or ComputeOptions()
    job = replace(_extension_job(old, models, output_dir, name, options), takes=takes_of.several(takes))
    folders = takes_of.start_extension(old, request, job, progress)
    return tuple(takes_of.draft(folders, job.models, options, progress, stop))


def _extension_job(
    old: SongFolder,
    models: ModelChoice | None,
    output_dir: Path | str | None,
    name: str | None,
    options: ComputeOptions,
) -> SongJob:
    parent = Path(output_dir) if output_dir else old.path.absolute().parent
    return SongJob(old.song, models_of_song(old, models), parent, name, options)


def resume_takes(
    folder: Path | str,
    models: ModelChoice | None = None,
    *,
    compute: ComputeOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[Song, ...]:
    """Go on with the interrupted drafts of the takes in a folder. Raises YueError."""
    _, group = takes_of.chosen(Path(folder), [])
    found, options = models_of_song(group[0], models), compute or ComputeOptions()
    return tuple(takes_of.draft(group, found, options, progress, stop))


def list_takes(folder: Path | str) -> tuple[Take, ...]:
    """The takes in a folder, by their number. Raises RequestError where it holds none, DamagedFile."""
    return takes_of.facts(Path(folder))


def keep_takes(
    folder: Path | str,
    numbers: Sequence[int],
    models: ModelChoice | None = None,
    *,
    delete_others: bool = False,
    compute: ComputeOptions | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[Song, ...]:
    """Finish the takes of these numbers, one after the other; the others stay drafts unless deleted.

    Nothing is deleted before all that are kept are finished; takes that were kept earlier, or elsewhere
    meanwhile, stay. Raises YueError, for no number and one that is repeated too.
    """
    kept, others = takes_of.kept(Path(folder), numbers)
    for take in kept:  # all before the first is worked on
        _check_drafted(take)
    songs = [refine(take.path, models, compute=compute, progress=progress, stop=stop) for take in kept]
    if delete_others:
        drafts = [take.path for take in others if _is_draft(take.path)]
        remove_songs(drafts, wanted=_is_draft)
    return tuple(songs)


def _is_draft(take: Path) -> bool:
    """Whether a take has not been kept so far, read anew, since others may have been kept for minutes."""
    return bool(SongFolder.open(take).early.draft)


def render(
    folder: Path | str,
    output: Output,
    models: ModelChoice | None = None,
    *,
    compute: ComputeOptions | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Song:
    """Write a refined song's files anew, as `output` says, in seconds; its codec is all that it takes.

    Files of another format that it had before stay, unless `force` removes them. Raises YueError; nothing is
    changed then.
    """
    opened = SongFolder.open(Path(folder))
    chosen = models.codec if models else None
    with opened.claimed():
        codec = rendering.check_rendering(opened, output, Path(chosen) if chosen else None, force)
        noted = {**opened.record.models, "codec": describe_file(codec / CODEC_IDENTITY_FILE)}
        threads = compute.threads if compute else None
        with closing(open_codec(codec, threads)) as engine:
            rendering.render_again(opened, output, engine, noted, progress)
        if force:
            rendering.remove_older(opened)
    return finished(opened)
