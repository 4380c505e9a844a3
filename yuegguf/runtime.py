"""The composition root: request + models + machine → real parts. The only place that names engines."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from yuegguf import machine, pipeline, plan
from yuegguf.audio import read_audio
from yuegguf.codec.base import AudioCodec
from yuegguf.engine.base import TokenEngine
from yuegguf.errors import Interrupted, RequestError, YueError
from yuegguf.models import ModelChoice, Models, check_same, describe, fingerprint, of_song, resolve
from yuegguf.plan import Machine, Plan
from yuegguf.progress import Event, Progress, silent
from yuegguf.request import Reference, Song, SongRequest
from yuegguf.song import SongFolder
from yuegguf.stages import prompt, stage1, stage2
from yuegguf.tokenizer import Tokenizer, open_tokenizer
from yuegguf.vocab import check_role, stage1_vocab, stage2_vocab


def generate(
    request: SongRequest,
    models: ModelChoice | None = None,
    output_dir: Path | str = "songs",
    *,
    name: str | None = None,
    machine_options: Machine | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Make a song: a new folder in `output_dir` with mix, stems and everything to go on from.

    Setting `stop` from another thread or a signal handler ends the work within a token with
    Interrupted; `resume` goes on. Raises YueError.
    """
    request.parsed()  # bad lyrics must fail before any model is read
    found = resolve(models or ModelChoice(), request.reference is not None)
    folder = start(request, found, Path(output_dir), name, machine_options or Machine())
    return go_on(folder, found, machine_options or Machine(), progress, stop)


def resume(
    folder: Path | str,
    models: ModelChoice | None = None,
    *,
    machine_options: Machine | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> Song:
    """Go on with an interrupted song at the exact token. Raises YueError."""
    opened = SongFolder.open(Path(folder))
    found = of_song(opened, models)
    return go_on(opened, found, machine_options or Machine(), progress, stop)


def start(
    request: SongRequest, models: Models, parent: Path, name: str | None, options: Machine
) -> SongFolder:
    """Check everything that can be checked beforehand, then make the song folder. Raises YueError."""
    if request.reference:
        check_reference(request.reference)
    made = plan_song(request, models, options)
    check_prompt(request, models.stage1, made.n_ctx)
    check_codec(models.codec)
    facts = {"family": models.name, "models": describe(models), "plan": made.to_json()}
    return SongFolder.create(parent, name or request.genre, request, facts)


def go_on(
    folder: SongFolder, models: Models, options: Machine, progress: Progress, stop: threading.Event | None
) -> Song:
    """Work on a song folder until it is done. Raises YueError."""
    try:
        return _go_on(folder, models, options, progress, stop)
    except YueError as error:
        error.folder = folder.path
        raise


def _go_on(
    folder: SongFolder, models: Models, options: Machine, progress: Progress, stop: threading.Event | None
) -> Song:
    if pipeline.next_phase(folder) == "done":
        return pipeline.finished(folder)
    check_same(folder, models)
    made = Plan.from_json(folder.fact("plan"))
    if options.threads:
        made = replace(made, threads=options.threads)
    parts = real_parts(models, made, options, stop or threading.Event())
    return pipeline.work(folder, made, parts, _stopping(progress, stop))


def plan_song(request: SongRequest, models: Models, options: Machine) -> Plan:
    """Read both models' facts, refuse the wrong ones, and decide how to compute. Raises YueError."""
    facts = {}
    for role, path in (("stage1", models.stage1), ("stage2", models.stage2)):
        facts[role] = inspect(path, role)
    cores, free = machine.physical_cores(), machine.available_memory()
    return plan.make(request, facts["stage1"], facts["stage2"], options, cores, free)


def inspect(path: Path, role: str) -> plan.ModelFacts:
    """A language model's facts, without its weights. Raises DamagedFile when it is not of this role."""
    from yuegguf.engine.llama import read_header

    pieces, metadata = read_header(path)
    check_role(metadata, role, path.name)
    stage1_vocab(pieces) if role == "stage1" else stage2_vocab(pieces)
    return plan.model_facts(metadata, path.stat().st_size)


def check_reference(wanted: Reference) -> None:
    """Read a reference's files, so that a bad one leaves no folder. Raises RequestError."""
    for file in filter(None, (wanted.mix, wanted.vocal, wanted.instrumental)):
        wave, rate = read_audio(Path(file))
        if len(wave) / rate <= wanted.start:
            raise RequestError(
                f"{file} ends before the reference window starts", "pass an earlier --ref-start"
            )


def check_prompt(request: SongRequest, path: Path, n_ctx: int) -> None:
    """Tokenise the lyrics as stage 1 will, and refuse sections that cannot fit; a reference comes on top.

    Raises RequestError, and ModelNotFound or DamagedFile for the tokenizer.
    """
    from yuegguf.engine.llama import read_header

    pieces, metadata = read_header(path)
    encode = open_tokenizer(metadata, pieces, path).encode
    built = prompt.build(encode, stage1_vocab(pieces), request.genre, request.parsed().sections)
    stage1.check_context(stage1.Draft(built, request.frame_caps(), request.sampling, request.seed), n_ctx)


def check_codec(folder: Path) -> None:
    """Open the codec's metadata. Raises ModelNotFound, DamagedFile."""
    from yuegguf.codec.ort import OrtCodec

    OrtCodec.open(folder).close()


def real_parts(models: Models, made: Plan, options: Machine, stop: threading.Event) -> pipeline.Parts:
    """The parts that llama.cpp and ONNX Runtime are behind."""

    def engine(path: Path, n_ctx: int, rows: int) -> TokenEngine:
        from yuegguf.engine.llama import EngineOptions, LlamaEngine

        settings = EngineOptions(
            n_ctx, rows, made.threads, made.kv_type, gpu_layers=made.gpu_layers, main_gpu=made.main_gpu
        )
        return LlamaEngine(path, settings, stop.is_set)

    def tokenizer(engine: TokenEngine) -> Tokenizer:
        return open_tokenizer(engine.metadata, engine.pieces, models.stage1)

    key = f"{fingerprint(models.stage1)} {made.n_ctx}x{made.stage1_rows} {made.kv_type} {made.gpu_layers}"
    return pipeline.Parts(
        stage1=lambda: engine(models.stage1, made.n_ctx, made.stage1_rows),
        tokenizer=tokenizer,
        stage2=lambda: engine(models.stage2, stage2.ROW_IDS, made.stage2_rows),
        codec=lambda: open_codec(models.codec, made.threads),
        cache_key=key,
        snapshot_seconds=options.snapshot_seconds,
    )


def open_codec(folder: Path, threads: int | None = None) -> AudioCodec:
    """The codec on ONNX Runtime. Raises ModelNotFound, DamagedFile."""
    from yuegguf.codec.ort import OrtCodec

    return OrtCodec.open(folder, threads or machine.physical_cores())


def _stopping(progress: Progress, stop: threading.Event | None) -> Progress:
    """Progress that ends the work once `stop` is set; every event is a point where nothing is lost."""

    def report(event: Event) -> None:
        progress(event)
        if stop is not None and stop.is_set():
            raise Interrupted("stopped")

    return report
