"""The composition root: models and a plan → engines. The only place that names them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from yuegguf import machine
from yuegguf.codec.base import AudioCodec
from yuegguf.codec.header import read_encoder
from yuegguf.cost import Held
from yuegguf.encoding import Room
from yuegguf.engine.base import TokenEngine
from yuegguf.errors import Interrupted
from yuegguf.lora import Lora
from yuegguf.models import Models
from yuegguf.parts import Parts
from yuegguf.plan import Machine, Plan
from yuegguf.progress import Event, Progress
from yuegguf.tokenizer import Tokenizer, open_tokenizer


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
        room=lambda: encoding_room(models.codec, options.max_memory),
    )


def encoding_room(codec: Path, most: int | None = None) -> Room:
    """What encoding with a codec takes and may take: `most` bytes, or what is free now.

    Raises ModelNotFound, DamagedFile.
    """
    shape = read_encoder(codec / "encoder.onnx")
    return Room(machine.available_memory() if most is None else most, shape.fixed, shape.second)


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
