"""Songs from beginning to end: request + models + machine → a song folder that is worked on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from yuegguf import checks, encoding, machine, material, pipeline, plan, rendering, voices
from yuegguf.early import Early
from yuegguf.engines import encoding_room as encoding_room
from yuegguf.engines import open_codec as open_codec
from yuegguf.engines import real_parts as real_parts
from yuegguf.engines import stopping as stopping
from yuegguf.errors import DamagedFile, RequestError, YueError
from yuegguf.files import check_room
from yuegguf.material import Material
from yuegguf.models import (
    CODEC_FILE,
    ModelChoice,
    Models,
    check_same,
    codec_of_song,
    describe,
    describe_file,
    describe_loras,
    of_song,
    reference_notice,
    resolve,
)
from yuegguf.plan import Machine, Plan
from yuegguf.progress import Event, Progress, silent
from yuegguf.request import Output, Song, SongRequest
from yuegguf.song import SongFolder
from yuegguf.song_lookup import new_path
from yuegguf.song_record import SongRecord


def generate(
    request: SongRequest,
    models: ModelChoice | None = None,
    output_dir: Path | str = "songs",
    *,
    name: str | None = None,
    machine_options: Machine | None = None,
    early: Early | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Make a song: a new folder in `output_dir` with mix, stems and everything to go on from.

    With `early` it may be heard before: a preview during stage 1, or a draft that `refine` goes on with.
    Setting `stop` from another thread or a signal handler ends the work within a token with
    Interrupted; `resume` goes on. What had to be interpreted in the lyrics comes as warnings through
    `progress`. Raises YueError.
    """
    notices = request.parsed().notices  # bad lyrics must fail before any model is read
    for notice in notices:
        progress(Event("draft", 0, 1, warning=notice))
    options = machine_options or Machine()
    choice = models or ModelChoice()
    found = resolve(choice, request.reference is not None)
    for notice in reference_notices(request, choice, found):
        progress(Event("draft", 0, 1, warning=notice))
    folder = start(request, found, Path(output_dir), name, options, early)
    return go_on(folder, found, options, progress, stop)


def resume(
    folder: Path | str,
    models: ModelChoice | None = None,
    *,
    machine_options: Machine | None = None,
    preview_seconds: float | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Go on with an interrupted song at the exact token, to where it was asked to go. Raises YueError.

    A song that was asked for its draft stops there again; `refine` takes it further. `preview_seconds`
    replaces the song's own (0 = no preview).
    """
    opened = SongFolder.open(Path(folder))
    if pipeline.next_phase(opened) == "done":
        return pipeline.tidied(opened)  # its models may be gone

    def early(before: Early) -> Early:
        return before if preview_seconds is None else replace(before, preview_seconds=preview_seconds)

    found = of_song(opened, models)
    return go_on(opened, found, machine_options or Machine(), progress, stop, early=early)


def refine(
    folder: Path | str,
    models: ModelChoice | None = None,
    *,
    machine_options: Machine | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Take a song whose draft is done to its end. Raises YueError."""
    opened = SongFolder.open(Path(folder))
    if pipeline.next_phase(opened) == "draft":
        raise RequestError(f"{folder} is still in its draft", f"finish it with: yuegguf resume {folder}")
    found, options = of_song(opened, models), machine_options or Machine()
    return go_on(opened, found, options, progress, stop, early=lambda before: replace(before, draft=""))


def render(
    folder: Path | str,
    output: Output,
    models: ModelChoice | None = None,
    *,
    machine_options: Machine | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Song:
    """Write a refined song's files anew, as `output` says, in seconds; its codec is all that it takes.

    Files of another format that it had before stay, unless `force` removes them. Raises YueError; nothing is
    changed then.
    """
    opened = SongFolder.open(Path(folder))
    checks.check_output(output)
    chosen = models.codec if models else None
    with opened.claimed():
        codec = codec_of_song(opened, Path(chosen) if chosen else None)
        if not force:
            rendering.check_replaceable(opened, output)
        noted = {**opened.record.models, "codec": describe_file(codec / CODEC_FILE)}
        threads = machine_options.threads if machine_options else None
        with closing(open_codec(codec, threads)) as engine:
            rendering.render_again(opened, output, engine, {"models": noted}, progress)
        if force:
            rendering.remove_older(opened)
    return pipeline.finished(opened)


def start(
    request: SongRequest,
    models: Models,
    parent: Path,
    name: str | None,
    options: Machine,
    early: Early | None = None,
) -> SongFolder:
    """Check everything that can be checked beforehand, then make the song folder. Raises YueError."""
    record = prepared(request, models, parent, name, options, early)
    return created(new_path(parent, record.title), record)


def created(path: Path, record: SongRecord) -> SongFolder:
    """A new song folder, with the codes of its voice if it has one. Raises YueError."""
    reference = record.request.reference
    voice = voices.load(reference.voice) if reference is not None and reference.voice is not None else None
    folder = SongFolder.create(path, record)
    if voice is not None:
        folder.save_reference(voice.codes)
    return folder


def prepared(
    request: SongRequest,
    models: Models,
    parent: Path,
    name: str | None,
    options: Machine,
    early: Early | None = None,
    takes: int = 1,
) -> SongRecord:
    """The song.json of a request whose files are found, once all is checked.

    The folder PARENT must have room for it. Raises YueError.
    """
    request, early = checks.located(request), early or Early()
    made, first = _planned(request, models, options, bool(early.preview_seconds), takes)
    checks.check_prompt(request, first, made.n_ctx)
    if request.reference is not None or request.track is not None:
        encoding.check_room(request.reference, request.track, encoding_room(models.codec, options.max_memory))
    # without snapshots, which a song can do without
    needed = takes * plan.file_bytes(request)
    check_room(parent, needed, "this song", "--output-dir")
    return _record(request, name, models, made).but(early=early)


def adopt(arrived: Material, models: Models, parent: Path, name: str | None, options: Machine) -> SongFolder:
    """A song folder of what another tool made, ready to be refined or rendered by `resume`.

    Raises YueError.
    """
    made, _ = _planned(arrived.request, models, options)
    record = _record(arrived.request, name, models, made)
    return material.adopt(arrived, new_path(parent, record.title), record)


def _planned(
    request: SongRequest, models: Models, options: Machine, preview: bool = False, takes: int = 1
) -> tuple[Plan, checks.Header]:
    """A plan and stage 1's header, when models, output and memory allow the song. Raises YueError."""
    checks.check_output(request.output)
    first, second = checks.read_models(models, preview)
    cores, free = machine.physical_cores(), machine.available_memory()
    made = plan.make(request, first.facts, second.facts, with_device(options), cores, free, takes)
    checks.check_codec(models.codec)
    return made, first


def _record(request: SongRequest, name: str | None, models: Models, made: Plan) -> SongRecord:
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
        voice = voices.load(request.reference.voice)
        if voice.codec != checks.codec_id(found.codec):
            notices.append(
                f"the voice {voice.name} was saved with another codec and will sound otherwise; "
                f"save it again from {' and '.join(voice.sources)}"
            )
    return [notice for notice in notices if notice]


def go_on(
    folder: SongFolder,
    models: Models,
    options: Machine,
    progress: Progress,
    stop: threading.Event | None,
    *,
    early: Callable[[Early], Early] = lambda before: before,
) -> Song:
    """Work on a song folder until it is done; `early` changes what is written before it is finished.

    Nothing in it changes before it is claimed and everything is checked. Raises YueError, with the folder in
    it.
    """
    try:
        if pipeline.next_phase(folder) == "done" and early(folder.early) == folder.early:
            return pipeline.tidied(folder)
        with folder.claimed():
            check_same(folder, models)
            made = note_plan(folder, models, options, early(folder.early), progress)
            parts = real_parts(models, made, options, stop or threading.Event())
            return pipeline.work(folder, made, parts, stopping(progress, stop))
    except YueError as error:
        error.folder = folder.path
        raise


def note_plan(folder: SongFolder, models: Models, options: Machine, early: Early, progress: Progress) -> Plan:
    """Decide how a claimed song goes on, with what the user now says of the machine, and note it.

    Raises YueError; song.json is not changed then.
    """
    cores, before = machine.physical_cores(), folder.record.plan
    plan.check_threads(options.threads, cores)
    if before is None:
        raise DamagedFile(f"{folder.path} does not say how it is computed", "start the song again")
    if options.threads is None and before.threads > plan.most_threads(cores):
        words = f"begun with {before.threads} threads, too many for this machine, goes on with {cores}"
        progress(Event("draft", 0, 1, warning=f"the song, {words}; that may change its last bits"))
        options = replace(options, threads=cores)
    if options.gpu is not None or options.gpu_layers is not None:
        options = with_device(options)
    first, second = checks.read_models(models, bool(early.preview_seconds))
    planned = SongFolder(folder.path, folder.record.but(early=early))
    free, phase = machine.available_memory(), pipeline.next_phase(planned)
    after = plan.revise(before, folder.request, first.facts, second.facts, options, free, phase)
    if (after, early) != (before, folder.early):
        folder.advance(folder.state, plan=after, early=early)
    return after


def with_device(options: Machine) -> Machine:
    """The options with the device decided, and what its memory holds.

    A GPU is used where llama.cpp can use one, unless the options say otherwise. Raises RequestError for
    a GPU that is not there.
    """
    from yuegguf.engine.llama import build_info, devices

    wanted = build_info()["gpu"] == "yes" if options.gpu is None else options.gpu
    if options.gpu_layers == 0 or not (wanted or options.gpu_layers):
        return replace(options, gpu=False)
    seen = devices()  # llama.cpp takes integrated GPUs only where there is no other
    gpus = next((same for kind in ("gpu", "igpu") if (same := [d for d in seen if d["kind"] == kind])), [])
    if options.main_gpu is not None and options.main_gpu >= len(gpus):
        raise RequestError(f"there is no GPU number {options.main_gpu}", f"{len(gpus)} are seen, from 0 on")
    used = gpus if options.main_gpu is None else [gpus[options.main_gpu]]
    free = sum(int(device["memory_free"]) for device in used) or None
    shared = machine.is_mac() or (bool(used) and all(device["kind"] == "igpu" for device in used))
    return replace(options, gpu=True, gpu_memory=free, shared_memory=shared)
