"""Generation of songs: a new one, the rest of one, its audio files again."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from yuegguf.errors import RequestError
from yuegguf.models.resolve import CODEC_IDENTITY_FILE, ModelChoice, resolve
from yuegguf.pipeline import preflight, rendering
from yuegguf.pipeline.create import reference_notices, start
from yuegguf.pipeline.engines import open_codec
from yuegguf.pipeline.run import run_song
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_models import codec_of_song, describe_file, models_of_song
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.prepared import prepare
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.song_request import Output, Song, SongRequest
from yuegguf.song.folder import SongFolder
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
    song = prepare(request)  # bad lyrics must fail before any model is read
    for notice in song.notices:
        progress(Event("draft", 0, 1, warning=notice))
    options = compute or ComputeOptions()
    choice = models or ModelChoice()
    found = resolve(choice, request.reference is not None)
    for notice in reference_notices(request, choice, found):
        progress(Event("draft", 0, 1, warning=notice))
    job = SongJob(song, found, Path(output_dir), name, options, preview or PreviewOptions())
    return run_song(start(job), found, options, progress, stop)


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
    if where(opened) == "draft":
        raise RequestError(f"{folder} is still in its draft", f"finish it with: yuegguf resume {folder}")
    found, options = models_of_song(opened, models), compute or ComputeOptions()
    return run_song(opened, found, options, progress, stop, early=lambda before: replace(before, draft=""))


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
    preflight.check_output(output)
    chosen = models.codec if models else None
    with opened.claimed():
        codec = codec_of_song(opened, Path(chosen) if chosen else None)
        if not force:
            rendering.check_replaceable(opened, output)
        noted = {**opened.record.models, "codec": describe_file(codec / CODEC_IDENTITY_FILE)}
        threads = compute.threads if compute else None
        with closing(open_codec(codec, threads)) as engine:
            rendering.render_again(opened, output, engine, {"models": noted}, progress)
        if force:
            rendering.remove_older(opened)
    return finished(opened)
