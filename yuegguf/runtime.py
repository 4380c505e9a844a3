"""The composition root: request + models + machine → real parts. The only place that names engines."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from yuegguf import machine, pipeline, plan, registry
from yuegguf.audio import read_audio
from yuegguf.codec.base import AudioCodec
from yuegguf.engine.base import TokenEngine
from yuegguf.errors import DamagedFile, Interrupted, ModelNotFound, RequestError, YueError
from yuegguf.plan import Machine, Plan
from yuegguf.progress import Event, Progress, silent
from yuegguf.request import Reference, Song, SongRequest
from yuegguf.song import SongFolder
from yuegguf.stages import prompt, stage1, stage2
from yuegguf.tokenizer import Tokenizer, open_tokenizer
from yuegguf.vocab import Role, check_role, stage1_vocab, stage2_vocab

NANO = "nano"
DEFAULT_STAGE1, DEFAULT_STAGE2 = "en-cot", "s2-general"
DEFAULT_STAGE1_ICL = "en-icl"


@dataclass(frozen=True)
class Models:
    """The files that make a song."""

    name: str
    """What to call the family: "nano", "en-cot", or the stage-1 file's name."""
    stage1: Path
    stage2: Path
    codec: Path
    """Folder of the exported codec."""


@dataclass(frozen=True)
class ModelChoice:
    """What the user says about models; None = decide."""

    stage1: str | None = None
    """Model id or .gguf file; "nano" for the bundled family."""
    stage2: str | None = None
    codec: Path | None = None
    quant: str | None = None
    models_dir: Path | None = None

    @property
    def root(self) -> Path:
        """The folder of installed models."""
        return self.models_dir or registry.models_dir()


def nano_models() -> Models:
    """The bundled family. Raises ModelNotFound when the package was built without it."""
    folder = Path(str(resources.files("yuegguf") / "data" / "nano"))
    models = Models(NANO, folder / "stage1.gguf", folder / "stage2.gguf", folder)
    for file in (models.stage1, models.stage2, folder / "decoder.onnx"):
        if not file.is_file():
            raise ModelNotFound("this yuegguf has no bundled models", "install it again, or pass --model")
    return models


def resolve(choice: ModelChoice, with_reference: bool = False) -> Models:
    """Find the model files.

    With nothing asked and nothing installed this is the bundled `nano`. Raises ModelNotFound.
    """
    if choice.stage1 == NANO or _nothing_there(choice):
        nano = nano_models()
        stage2 = _find(choice.stage2 or NANO, "stage2", None, choice.root)
        return replace(nano, stage2=stage2, codec=choice.codec or nano.codec)
    default = DEFAULT_STAGE1_ICL if with_reference else DEFAULT_STAGE1
    stage1 = _find(choice.stage1 or default, "stage1", choice.quant, choice.root)
    stage2 = _find(choice.stage2 or DEFAULT_STAGE2, "stage2", None, choice.root)
    codec = choice.codec or registry.installed_codec(choice.root)
    if codec is None:
        raise ModelNotFound(
            f"the codec is not installed in {choice.root}",
            "get m-a-p/xcodec_mini_infer, then: yuegguf export-codec FOLDER",
        )
    return Models(stage1.stem, stage1, stage2, codec)


def _find(name: str, role: Role, quant: str | None, root: Path) -> Path:
    """The language model that a name stands for, the bundled ones included. Raises ModelNotFound."""
    if name == NANO:
        return nano_models().stage1 if role == "stage1" else nano_models().stage2
    return registry.find_model(name, quant, root)


def resolve_codec(choice: ModelChoice) -> Path:
    """The codec's folder alone, for `encode` and `decode`."""
    found = choice.codec or registry.installed_codec(choice.root)
    return found or nano_models().codec


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
    found = _same_models(opened, models)
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
    pipeline.check_models(folder, describe(models))
    made = Plan.from_json(folder.fact("plan"))
    if options.threads:
        made = replace(made, threads=options.threads)
    parts = real_parts(folder, models, made, options, stop or threading.Event())
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


def real_parts(
    folder: SongFolder, models: Models, made: Plan, options: Machine, stop: threading.Event
) -> pipeline.Parts:
    """The parts that llama.cpp and ONNX Runtime are behind."""

    def engine(path: Path, n_ctx: int, rows: int) -> TokenEngine:
        from yuegguf.engine.llama import EngineOptions, LlamaEngine

        settings = EngineOptions(
            n_ctx, rows, made.threads, made.kv_type, gpu_layers=made.gpu_layers, main_gpu=made.main_gpu
        )
        return LlamaEngine(path, settings, stop.is_set)

    def tokenizer(engine: TokenEngine) -> Tokenizer:
        return open_tokenizer(engine.metadata, engine.pieces, models.stage1)

    fingerprint = describe(models)["stage1"]["fingerprint"]
    key = f"{fingerprint} {made.n_ctx}x{made.stage1_rows} {made.kv_type} {made.gpu_layers}"
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


def describe(models: Models) -> dict[str, dict[str, Any]]:
    """What song.json says of the models: file, size, fingerprint."""
    roles = {"stage1": models.stage1, "stage2": models.stage2, "codec": models.codec / "decoder.onnx"}
    return {
        role: {"file": str(path.absolute()), "bytes": path.stat().st_size, "fingerprint": fingerprint(path)}
        for role, path in roles.items()
        if path.is_file()
    }


def fingerprint(path: Path) -> str:
    """SHA-256 over a file's size, first and last MiB: enough to tell models apart, and instant."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(2**20))
        file.seek(max(0, size - 2**20))
        digest.update(file.read(2**20))
    return digest.hexdigest()


def _nothing_there(choice: ModelChoice) -> bool:
    """Whether no model was asked for and none is installed."""
    asked = choice.stage1 or choice.stage2 or choice.quant
    return not asked and not any(choice.root.glob("*.gguf"))


def _same_models(folder: SongFolder, choice: ModelChoice | None) -> Models:
    """The models of a song: where song.json says they were, unless the caller names others."""
    noted = folder.fact("models") or {}
    try:
        stage1, stage2 = (Path(noted[role]["file"]) for role in ("stage1", "stage2"))
        codec = Path(noted["codec"]["file"]).parent
        family = str(folder.fact("family"))
    except (KeyError, TypeError) as error:
        raise DamagedFile(
            f"{folder.path} does not say which models it uses", "start the song again"
        ) from error
    if family == NANO:  # the package may have moved since
        nano = nano_models()
        stage1 = stage1 if stage1.exists() else nano.stage1
        stage2 = stage2 if stage2.exists() else nano.stage2
        codec = codec if codec.exists() else nano.codec
    if choice:
        stage1 = _find(choice.stage1, "stage1", choice.quant, choice.root) if choice.stage1 else stage1
        stage2 = _find(choice.stage2, "stage2", None, choice.root) if choice.stage2 else stage2
        codec = choice.codec or codec
    for path in (stage1, stage2, codec):
        if not path.exists():
            raise ModelNotFound(
                f"the song's model {path} is gone",
                "put it back, or name it with --stage1-model, --stage2-model, --codec",
            )
    return Models(family, stage1, stage2, codec)


def _stopping(progress: Progress, stop: threading.Event | None) -> Progress:
    """Progress that ends the work once `stop` is set; every event is a point where nothing is lost."""

    def report(event: Event) -> None:
        progress(event)
        if stop is not None and stop.is_set():
            raise Interrupted("stopped")

    return report
