"""The stage of a model file, and an engine that scores given ids with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from yuegguf.errors import RequestError
from yuegguf.lm.gguf_model import CheckedModel, read_model
from yuegguf.lm.gguf_parts import model_bytes
from yuegguf.lm.header import model_facts
from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.vocab import StageRole, role_of
from yuegguf.pipeline.engines import check_build, find_devices, may_repack
from yuegguf.planning.compute_options import QUANTISED_KV_TYPES, ComputeOptions
from yuegguf.planning.cost import LoadSpec
from yuegguf.planning.memory import MemoryNeed

READ_BLOCK = 64
"""Ids of one decode call."""


def stage_of(path: Path) -> StageRole:
    """The stage that a file is for. Raises RequestError where it says none, and what reading raises."""
    role = role_of(read_model(path).metadata)
    if role is None:
        raise RequestError(f"{path.name} does not say which stage it is", "trim it: yuegguf convert")
    return "stage1" if role == "stage1" else "stage2"


def open_scoring_engine(
    model: CheckedModel, ids: int, rows: int, threads: int | None, kv_type: str = "f16"
) -> TokenEngine:
    """An engine with all layers on the GPU if it has room for them, else none. Raises NotEnoughMemory."""
    from yuegguf.lm.llama import EngineOptions, LlamaEngine

    check_build()
    path, devices = model.file.path, find_devices(ComputeOptions())
    facts = model_facts(model.shape, model_bytes(path))
    on_cpu = LoadSpec(rows, ids, kv_type, flash=kv_type in QUANTISED_KV_TYPES)
    on_gpu = replace(on_cpu, gpu_layers=-1)
    fits = devices.gpu_memory is None or on_gpu.gpu_bytes(facts) <= devices.gpu_memory
    load = on_gpu if devices.gpu and fits else on_cpu
    MemoryNeed(path.name, facts, load).check(
        devices.memory, None, shared=devices.shared_memory, requested=False
    )
    count = threads or devices.cores
    options = EngineOptions(
        ids,
        rows,
        count,
        kv_type,
        load.flash,
        outputs=READ_BLOCK,
        gpu_layers=load.gpu_layers,
        repack=may_repack(),
    )
    return LlamaEngine(path, options)
