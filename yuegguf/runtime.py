"""The composition root: request + models + machine → real parts. The only place that names engines."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from yuegguf import checks, machine, material, pipeline, plan, voices
from yuegguf.codec.base import AudioCodec
from yuegguf.cost import Held
from yuegguf.early import Early
from yuegguf.engine.base import TokenEngine
from yuegguf.errors import Interrupted, RequestError, YueError
from yuegguf.files import check_room
from yuegguf.lora import Lora
from yuegguf.material import Material
from yuegguf.models import (
    ModelChoice,
    Models,
    check_same,
    describe,
    describe_loras,
    of_song,
    reference_notice,
    resolve,
)
from yuegguf.parts import Parts
from yuegguf.plan import Machine, Plan
from yuegguf.progress import Event, Progress, silent
from yuegguf.request import Output, Song, SongRequest
from yuegguf.song import SongFolder, new_path
from yuegguf.tokenizer import Tokenizer, open_tokenizer


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
    if preview_seconds is not None:
        _note_early(opened, preview_seconds=preview_seconds)
    found = of_song(opened, models)
    return go_on(opened, found, machine_options or Machine(), progress, stop)


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
    found = of_song(opened, models)
    _note_early(opened, draft="")
    return go_on(opened, found, machine_options or Machine(), progress, stop)


def render(
    folder: Path | str,
    output: Output,
    models: ModelChoice | None = None,
    *,
    machine_options: Machine | None = None,
    progress: Progress = silent,
) -> Song:
    """Write a refined song's files anew, as `output` says, in seconds. Raises YueError.

    Files of another format that it had before are deleted; draws and codes stay as they are.
    """
    opened = SongFolder.open(Path(folder))
    opened.load_stage2()  # a song that is not refined yet is refused before anything is changed
    checks.check_output(output)
    opened.lock()
    try:
        before = opened.fact("files") or []
        request = replace(opened.request, output=output)
        opened.advance("master", request=request.to_json(), files=[])
    finally:
        opened.unlock()
    song = go_on(opened, of_song(opened, models), machine_options or Machine(), progress, None)
    written = {path.name for path in song.files}
    for name in before:
        if name not in written:
            (opened.path / name).unlink(missing_ok=True)
    return song


def _note_early(folder: SongFolder, **changes: Any) -> None:
    """Change what is to be heard early, in a folder that nobody else works on. Raises StorageError."""
    folder.lock()
    try:
        early = replace(folder.early, **changes)
        if early != folder.early:
            folder.advance(folder.state, early=early.to_json())
    finally:
        folder.unlock()


def start(
    request: SongRequest,
    models: Models,
    parent: Path,
    name: str | None,
    options: Machine,
    early: Early | None = None,
) -> SongFolder:
    """Check everything that can be checked beforehand, then make the song folder. Raises YueError."""
    request, facts = prepared(request, models, parent, name, options, early)
    return created(new_path(parent, facts["title"]), request, facts)


def created(path: Path, request: SongRequest, facts: dict[str, Any]) -> SongFolder:
    """A new song folder, with the codes of its voice if it has one. Raises YueError."""
    folder = SongFolder.create_at(path, request, facts)
    if request.reference is not None and request.reference.voice is not None:
        folder.save_reference(voices.load(request.reference.voice).codes)
    return folder


def prepared(
    request: SongRequest,
    models: Models,
    parent: Path,
    name: str | None,
    options: Machine,
    early: Early | None = None,
    takes: int = 1,
) -> tuple[SongRequest, dict[str, Any]]:
    """The request with its files found, and the facts of its song.json, once all is checked.

    The folder PARENT must have room for it. Raises YueError.
    """
    request, early = checks.located(request), early or Early()
    made, first = _planned(request, models, options, bool(early.preview_seconds), takes)
    checks.check_prompt(request, first, made.n_ctx)
    # without snapshots, which a song can do without
    needed = takes * plan.file_bytes(request)
    check_room(parent, needed, "this song", "--output-dir")
    return request, {**_facts(name or request.genre.strip(), models, made), "early": early.to_json()}


def adopt(arrived: Material, models: Models, parent: Path, name: str | None, options: Machine) -> SongFolder:
    """A song folder of what another tool made, ready to be refined or rendered by `resume`.

    Raises YueError.
    """
    made, _ = _planned(arrived.request, models, options)
    title = name or arrived.request.genre.strip()
    return material.adopt(arrived, parent, title, _facts(title, models, made))


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


def _facts(title: str, models: Models, made: Plan) -> dict[str, Any]:
    """What song.json says beside the request."""
    return {
        "title": title,
        "family": models.name,
        "models": describe(models),
        "loras": describe_loras(models),
        "plan": made.to_json(),
    }


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
    folder: SongFolder, models: Models, options: Machine, progress: Progress, stop: threading.Event | None
) -> Song:
    """Work on a song folder until it is done. Raises YueError, with the folder in it."""
    try:
        if pipeline.next_phase(folder) == "done":
            return pipeline.finished(folder)
        check_same(folder, models)
        made = revised_plan(folder, models, options)
        parts = real_parts(models, made, options, stop or threading.Event())
        return pipeline.work(folder, made, parts, stopping(progress, stop))
    except YueError as error:
        error.folder = folder.path
        raise


def revised_plan(folder: SongFolder, models: Models, options: Machine) -> Plan:
    """The song's plan with what the user now says of the machine; kept in the folder if it changed."""
    plan.check_threads(options.threads, machine.physical_cores())
    before = Plan.from_json(folder.fact("plan"))
    if options.gpu is not None or options.gpu_layers is not None:
        options = with_device(options)
    first, second = checks.read_models(models, bool(folder.early.preview_seconds))
    free, phase = machine.available_memory(), pipeline.next_phase(folder)
    after = plan.revise(before, folder.request, first.facts, second.facts, options, free, phase)
    if after != before:
        folder.advance(folder.state, plan=after.to_json())
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
    gpus = [device for device in devices() if device["kind"] in ("gpu", "igpu")]
    if options.main_gpu is not None and options.main_gpu >= len(gpus):
        raise RequestError(f"there is no GPU number {options.main_gpu}", f"{len(gpus)} are seen, from 0 on")
    used = gpus if options.main_gpu is None else [gpus[options.main_gpu]]
    free = sum(int(device["memory_free"]) for device in used) or None
    shared = machine.is_mac() or (bool(used) and all(device["kind"] == "igpu" for device in used))
    return replace(options, gpu=True, gpu_memory=free, shared_memory=shared)


def real_parts(models: Models, made: Plan, options: Machine, stop: threading.Event) -> Parts:
    """The parts that llama.cpp and ONNX Runtime are behind."""

    def engine(path: Path, held: Held, loras: tuple[Lora, ...] = ()) -> TokenEngine:
        from yuegguf.engine.llama import EngineOptions, LlamaEngine

        settings = EngineOptions(
            held.ids,
            held.rows,
            made.threads,
            held.kv_type,
            held.flash,
            held.batch,
            gpu_layers=held.gpu_layers,
            main_gpu=made.main_gpu,
            loras=loras,
        )
        return LlamaEngine(path, settings, stop.is_set)

    def tokenizer(engine: TokenEngine) -> Tokenizer:
        return open_tokenizer(engine.metadata, engine.pieces, models.stage1)

    first = made.stage1()
    key = f"{models.stage1_key} {first.ids}x{first.rows} {first.kv_type} {first.gpu_layers} "
    key += f"{first.flash}"
    return Parts(
        stage1=lambda takes: engine(models.stage1, replace(first, rows=takes * first.rows), models.loras),
        tokenizer=tokenizer,
        stage2=lambda rows: engine(models.stage2, replace(made.stage2(), rows=rows)),
        codec=lambda: open_codec(models.codec, made.threads),
        cache_key=key,
        snapshot_seconds=options.snapshot_seconds,
    )


def open_codec(folder: Path, threads: int | None = None) -> AudioCodec:
    """The codec on ONNX Runtime. Raises ModelNotFound, DamagedFile."""
    from yuegguf.codec.ort import OrtCodec

    return OrtCodec.open(folder, threads or machine.physical_cores())


def stopping(progress: Progress, stop: threading.Event | None) -> Progress:
    """Progress that ends the work once `stop` is set; every event is a point where nothing is lost."""

    def report(event: Event) -> None:
        progress(event)
        if stop is not None and stop.is_set():
            raise Interrupted("stopped")

    return report
