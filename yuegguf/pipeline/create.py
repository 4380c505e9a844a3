"""Songs from beginning to end: request + models + machine → a song folder that is worked on."""

from __future__ import annotations

from pathlib import Path

from yuegguf.files.atomic import check_free_disk
from yuegguf.files.song_work import check_no_song_work
from yuegguf.lm import header
from yuegguf.models.resolve import ModelChoice, Models, reference_notice
from yuegguf.pipeline import preflight
from yuegguf.pipeline.engines import encoding_memory, with_device
from yuegguf.pipeline.song_models import describe, describe_loras
from yuegguf.planning import hardware, plan
from yuegguf.planning.plan import ComputeOptions, Plan
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.song_request import SongRequest
from yuegguf.song import encoding, voices
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import new_song_path
from yuegguf.song.record import SongRecord


def start(
    request: SongRequest,
    models: Models,
    parent: Path,
    name: str | None,
    options: ComputeOptions,
    early: PreviewOptions | None = None,
) -> SongFolder:
    """Check everything that can be checked beforehand, then make the song folder. Raises YueError."""
    record = prepared(request, models, parent, name, options, early)
    return created(new_song_path(parent, record.title), record)


def created(path: Path, record: SongRecord) -> SongFolder:
    """A new song folder, with the codes of its voice if it has one. Raises YueError."""
    reference = record.request.reference
    voice = (
        voices.load_voice(reference.voice) if reference is not None and reference.voice is not None else None
    )
    folder = SongFolder.create(path, record)
    if voice is not None:
        folder.save_reference(voice.codes)
    return folder


def prepared(
    request: SongRequest,
    models: Models,
    parent: Path,
    name: str | None,
    options: ComputeOptions,
    early: PreviewOptions | None = None,
    takes: int = 1,
) -> SongRecord:
    """The song.json of a request whose files are found, once all is checked.

    The folder PARENT must have room for it. Raises YueError.
    """
    check_no_song_work(parent)
    request, early = preflight.located(request), early or PreviewOptions()
    made, first = planned(request, models, options, bool(early.preview_seconds), takes)
    preflight.check_prompt(request, first, made.n_ctx)
    if request.reference is not None or request.track is not None:
        encoding.check_encoding_memory(
            request.reference, request.track, encoding_memory(models.codec, options.max_memory)
        )
    # without snapshots, which a song can do without
    needed = takes * plan.file_bytes(request)
    check_free_disk(parent, needed, "this song", "--output-dir")
    return new_record(request, name, models, made).changed(early=early)


def planned(
    request: SongRequest, models: Models, options: ComputeOptions, preview: bool = False, takes: int = 1
) -> tuple[Plan, header.ModelHeader]:
    """A plan and stage 1's header, when models, output and memory allow the song. Raises YueError."""
    preflight.check_output(request.output)
    first, second = preflight.read_models(models, preview)
    cores, free = hardware.physical_cores(), hardware.available_memory()
    made = plan.make(request, first.facts, second.facts, with_device(options), cores, free, takes)
    preflight.check_codec(models.codec)
    return made, first


def new_record(request: SongRequest, name: str | None, models: Models, made: Plan) -> SongRecord:
    """song.json of a song that begins."""
    return SongRecord(
        request=request,
        title=name or request.genre.strip(),
        family=models.name,
        models=describe(models),
        loras=describe_loras(models),
        plan=made,
    )


def reference_notices(request: SongRequest, choice: ModelChoice, found: Models) -> list[str]:
    """What to know, before a song is made, of its reference and the models that were found for it.

    Raises RequestError, ModelNotFound, DamagedFile.
    """
    if request.reference is None:
        return []
    notices = [reference_notice(choice, found)]
    if request.reference.voice is not None:
        voice = voices.load_voice(request.reference.voice)
        if voice.codec != preflight.codec_id(found.codec):
            notices.append(
                f"the voice {voice.name} was saved with another codec and will sound otherwise; "
                f"save it again from {' and '.join(voice.sources)}"
            )
    return [notice for notice in notices if notice]
