"""A new song: everything is checked, then its folder is made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.files.atomic import check_free_disk
from yuegguf.files.song_work import check_no_song_work
from yuegguf.lm.header import ModelHeader
from yuegguf.models.resolve import ModelChoice, Models, nano_notice, reference_notice, resolve
from yuegguf.pipeline import preflight
from yuegguf.pipeline.engines import encoding_memory, find_devices
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_models import describe, describe_loras
from yuegguf.planning.plan import Plan, file_bytes, make_plan
from yuegguf.planning.timing import TimingCache, calibrated
from yuegguf.progress import Event, Progress
from yuegguf.request.prepared import PreparedSong, prepare
from yuegguf.request.scripts import line_scripts, model_mismatch
from yuegguf.request.song_request import Output, SongRequest
from yuegguf.song import encoding, recordings, voices
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import new_song_path
from yuegguf.song.record import SongRecord


def prepare_song(
    request: SongRequest, choice: ModelChoice, progress: Progress
) -> tuple[PreparedSong, Models]:
    """A request with its lyrics parsed, and the models for it.

    What had to be interpreted or chosen comes as warnings through `progress`. Raises YueError.
    """
    song = prepare(request)  # bad lyrics must fail before any model is read
    warn_each(song.notices, progress)
    models = resolve(choice, request.reference is not None)
    scripts = [script for section in song.sections for script in line_scripts(section.body)]
    mismatch = model_mismatch(scripts, models.name)
    notices = [nano_notice(choice, models), mismatch, *reference_notices(request, choice, models)]
    warn_each([notice for notice in notices if notice], progress)
    return song, models


def warn_each(notices: Sequence[str], progress: Progress) -> None:
    """Report each notice as a warning."""
    for notice in notices:
        progress(Event("draft", 0, 1, warning=notice))


def start(job: SongJob) -> SongFolder:
    """Check everything that can be checked beforehand, then make the song folder. Raises YueError."""
    record = new_record(job)
    return created(new_song_path(job.parent, record.title), record)


def created(path: Path, record: SongRecord, codes: NDArray[np.int16] | None = None) -> SongFolder:
    """A new song folder, with the codes of its reference, or of its voice; nothing is left on failure.

    Raises YueError.
    """
    reference = record.request.reference
    if codes is None and reference is not None and reference.voice is not None:
        codes = voices.load_voice(reference.voice).codes
    folder = SongFolder.create(path, record)
    if codes is not None:
        try:
            folder.save_reference(codes)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
    return folder


def new_record(
    job: SongJob, earlier: Output | None = None, codes: NDArray[np.int16] | None = None
) -> SongRecord:
    """song.json of a song to generate, once all is checked, the room on the disk too.

    `earlier` is the output of the song that it goes on from, and `codes` are those of its reference, whose
    recording or voice is not needed then. Raises YueError.
    """
    check_no_song_work(job.parent)
    if codes is None:
        job = replace(job, song=preflight.located(job.song))
    plan, header = planned(job, earlier)
    preflight.check_prompt(job.song, header, plan.n_ctx, codes)
    request = job.song.request
    if codes is None and (request.reference is not None or request.track is not None):
        memory = encoding_memory(job.models.codec, job.compute.max_memory)
        encoding.check_encoding_memory(request.reference, request.track, memory)
    # without snapshots, which a song can do without
    check_free_disk(job.parent, job.takes * file_bytes(job.song), "this song", "--output-dir")
    return record_of(job, plan)


def planned(job: SongJob, earlier: Output | None = None) -> tuple[Plan, ModelHeader]:
    """A plan and stage 1's header, when models, output and memory allow the song. Raises YueError."""
    preflight.check_output(job.song.request.output, earlier)
    headers = preflight.read_models(job.models, bool(job.preview.preview_seconds))
    plan = make_plan(job.song, headers.facts, job.compute, find_devices(job.compute), job.takes)
    preflight.check_codec(job.models.codec)
    return calibrated(plan, job.compute, job.models.stage1_key, TimingCache()), headers.stage1


def record_of(job: SongJob, plan: Plan) -> SongRecord:
    """song.json of a job that is planned."""
    request, models = job.song.request, job.models
    return SongRecord(
        request=request,
        title=(job.name or "").strip() or request.genre.strip(),
        family=models.name,
        models=describe(models),
        loras=describe_loras(models),
        plan=plan,
        early=job.preview,
    )


def reference_notices(request: SongRequest, choice: ModelChoice, models: Models) -> list[str]:
    """Notices about a song's reference, and about the models that were chosen for it.

    Raises RequestError, ModelNotFound, DamagedFile.
    """
    if request.reference is None:
        return []
    notices = [reference_notice(choice, models), *recordings.reference_notices(request.reference)]
    if request.reference.voice is not None:
        voice = voices.load_voice(request.reference.voice)
        if voice.codec != preflight.codec_id(models.codec):
            notices.append(
                f"the voice {voice.name} was saved with another codec and will sound otherwise; "
                f"save it again from {' and '.join(voice.sources)}"
            )
    return [notice for notice in notices if notice]
