"""The composition root: models and a plan → engines. The only place that names them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from yuegguf.codec.header import read_encoder
from yuegguf.codec.protocol import AudioCodec
from yuegguf.errors import Interrupted, RequestError, YueError
from yuegguf.files.reading import FileVersion, file_version
from yuegguf.lm import aborts
from yuegguf.lm.adapters import Lora
from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.tokenizer import Tokenizer, open_tokenizer
from yuegguf.models.resolve import ModelChoice, Models, codec_notice, nano_models, resolve_codec
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions, Devices, is_here
from yuegguf.planning.cost import LoadSpec
from yuegguf.planning.plan import Plan
from yuegguf.planning.timing import MeasurementCache, cache_file
from yuegguf.progress import Event, Progress
from yuegguf.song.encoding import EncodingMemory
from yuegguf.song.recordings import silence_codes
from yuegguf.stages.render import Renderer

if TYPE_CHECKING:
    from yuegguf.codec.onnx import OrtCodec

REBUILD_HINT = "build it: pip install --force-reinstall --no-cache-dir --no-binary=:all: llama-cpp-python"
BROKEN_AMX = (
    "llama.cpp's kernels for AMX fail as they were compiled here, so slower ones are used; "
    "docs/install.md says how to build it with working ones"
)


@dataclass(frozen=True)
class EngineFactory:
    """Factories of the engines and the codec; a phase opens its own and closes it at its end."""

    stage1: Callable[[int, int], TokenEngine]
    """Takes the number of sequences, and their length in ids."""
    tokenizer: Callable[[TokenEngine], Tokenizer]
    stage2: Callable[[int], TokenEngine]
    """Takes the number of rows."""
    codec: Callable[[], AudioCodec]
    silence: Callable[[], int]
    """Finds the codec's code of silence."""
    cache_key: str
    """Names the stage-1 model and options; caches of another key are not used."""
    snapshot_seconds: float
    room: Callable[[], EncodingMemory] = EncodingMemory
    """Memory that encoding recordings may use now."""
    render: Renderer | None = None
    """Renders stems elsewhere; None = here."""


def engine_factory(
    models: Models,
    plan: Plan,
    options: ComputeOptions,
    stop: threading.Event,
    warn: Callable[[str], object] = lambda _sentence: None,
) -> EngineFactory:
    """Engines of llama.cpp and ONNX Runtime. The `stop` event ends a step that is being computed."""
    warn = cache(warn)  # each sentence once, not for each engine

    def engine(path: Path, load: LoadSpec, loras: tuple[Lora, ...] = ()) -> TokenEngine:
        from yuegguf.lm.llama import EngineOptions, LlamaEngine
        from yuegguf.lm.split_engine import open_split

        check_build()
        if not may_repack():
            warn(BROKEN_AMX)
        settings = EngineOptions(
            load.ids,
            load.rows,
            max(1, plan.threads // load.opened),
            load.kv_type,
            load.flash,
            load.batch,
            gpu_layers=load.gpu_layers,
            main_gpu=plan.main_gpu,
            rpc_server=plan.rpc_server,
            loras=loras,
            repack=may_repack(),
        )

        def part(rows: int) -> LlamaEngine:
            return LlamaEngine(path, replace(settings, n_rows=rows), stop.is_set)

        return part(load.rows) if load.opened == 1 else open_split(part, load.rows, load.opened, plan.threads)

    def tokenizer(engine: TokenEngine) -> Tokenizer:
        return open_tokenizer(engine.metadata, engine.pieces, models.stage1)

    first = plan.stage1()
    key = f"{models.stage1_key} {first.ids}x{first.rows} {first.kv_type} {first.gpu_layers} "
    key += f"{first.flash}"
    return EngineFactory(
        stage1=lambda rows, ids: engine(models.stage1, replace(first, rows=rows, ids=ids), models.loras),
        tokenizer=tokenizer,
        stage2=lambda rows: engine(models.stage2, replace(plan.stage2(), rows=rows)),
        codec=lambda: open_codec(models.codec, plan.threads),
        silence=lambda: silence_code(models.codec, plan.threads),
        cache_key=key,
        snapshot_seconds=options.snapshot_seconds,
        room=lambda: encoding_memory(models.codec, options.max_memory),
    )


def report_aborts(handler: Callable[[YueError], object]) -> None:
    """Call `handler` with the error before llama.cpp ends this process; see `lm.aborts`."""
    aborts.set_handler(handler)


def check_build() -> None:
    """Raise YueError where llama.cpp was built for another processor, before its kernels end the process."""
    from yuegguf.lm.build import build_info

    if missing := hardware.missing_features(build_info()["system"]):
        names = ", ".join(missing)
        raise YueError(
            f"the installed llama.cpp was built for a processor with {names}, which this one lacks",
            REBUILD_HINT,
        )


@lru_cache(1)
def may_repack() -> bool:
    """Whether the kernels for AMX work, if this llama.cpp has any; tried once with each build.

    False where a trial could not be finished; the next process tries again then.
    """
    from yuegguf.lm import amx_trial
    from yuegguf.lm.build import build_files, build_info

    facts = build_info()
    if not amx_trial.uses_amx(facts["system"]):
        return True
    stored = MeasurementCache(cache_file("kernels.json"), bool)
    known = facts, hardware.cpu_name(), build_files()
    found = stored.find(*known)
    if found is None:
        found = amx_trial.amx_works(nano_models().stage2)
        if found is not None:
            stored.keep(found, *known)
    return bool(found)


def encoding_memory(codec: Path, most: int | None = None) -> EncodingMemory:
    """Memory that encoding with a codec needs, and its limit: `most` bytes, or the free memory.

    Raises ModelNotFound, DamagedFile.
    """
    shape = read_encoder(codec / "encoder.onnx")
    return EncodingMemory(hardware.available_memory() if most is None else most, shape.fixed, shape.second)


def chosen_codec(choice: ModelChoice, progress: Progress) -> Path:
    """The codec's folder; that it is the bundled one since none is installed comes as a warning.

    Raises ModelNotFound.
    """
    found = resolve_codec(choice)
    notice = codec_notice(choice, found)
    if notice:
        progress(Event("encode", 0, 1, warning=notice))
    return found


def open_codec(folder: Path, threads: int | None = None) -> AudioCodec:
    """The codec on ONNX Runtime. Raises ModelNotFound, DamagedFile."""
    from yuegguf.codec.onnx import OrtCodec

    return OrtCodec.open(folder, threads or hardware.physical_cores())


def silence_code(folder: Path, threads: int) -> int:
    """A codec's code of silence in codebook 0; encoded once while the encoder's file stays as it is.

    Raises ModelNotFound, DamagedFile, CodecError.
    """
    from yuegguf.codec.onnx import OrtCodec

    return _silence_code(OrtCodec, folder, threads, file_version(folder / "encoder.onnx"))


@lru_cache(4)
def _silence_code(opened: type[OrtCodec], folder: Path, threads: int, _version: FileVersion) -> int:
    with closing(opened.open(folder, threads)) as codec:
        return int(silence_codes(codec)[0])


def stopping(progress: Progress, stop: threading.Event | None) -> Progress:
    """Progress that ends the work once `stop` is set; every event is a point where nothing is lost."""

    def report(event: Event) -> None:
        progress(event)
        if stop is not None and stop.is_set():
            raise Interrupted("stopped")

    return report


def find_devices(options: ComputeOptions) -> Devices:
    """Devices of this machine, with a GPU if llama.cpp can use one and the options allow it.

    Raises YueError for a GPU where there is none, RequestError for one of several that is not there,
    EngineError for an RPC server that cannot be used.
    """
    from yuegguf.lm.build import build_info, check_gpu, devices

    own = Devices(hardware.physical_cores(), hardware.available_memory())
    server = options.rpc_server
    wanted = build_info()["gpu"] == "yes" if options.gpu is None else options.gpu
    if options.gpu_layers == 0 or not (wanted or server or options.gpu_layers):
        return own
    if server is None:
        check_gpu()
    seen = devices(server)  # llama.cpp takes integrated GPUs only where there is no other
    gpus = next((same for kind in ("gpu", "igpu") if (same := [d for d in seen if d["kind"] == kind])), [])
    if options.main_gpu is not None and options.main_gpu >= len(gpus):
        raise RequestError(f"there is no GPU number {options.main_gpu}", f"{len(gpus)} are seen, from 0 on")
    used = gpus if options.main_gpu is None else [gpus[options.main_gpu]]
    free = sum(int(device["memory_free"]) for device in used) or None
    shared = hardware.is_mac() or (bool(used) and all(device["kind"] == "igpu" for device in used))
    if server is not None:
        shared = is_here(server)
    return replace(own, gpu=True, gpu_memory=free, shared_memory=shared)
