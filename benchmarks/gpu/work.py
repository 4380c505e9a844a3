"""The measurements themselves; each runs in a process of its own and returns a table."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import product

import numpy as np

from benchmarks import growth, takes_step
from benchmarks.gpu.setting import STAGES, Setting
from benchmarks.gpu.table import Table
from benchmarks.throughput_real import Steps
from yuegguf.codec.onnx import CPU, OrtCodec, build_info
from yuegguf.codec.protocol import CODEBOOKS, FRAME_RATE
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.header import ModelFacts, model_facts
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.vocab import StageRole
from yuegguf.planning import hardware
from yuegguf.planning.cost import KV_BYTES, LoadSpec
from yuegguf.planning.timing import NEAR, measure, measure_codec
from yuegguf.stages.stage2 import CHUNK_IDS

SONGS = (60, 180, 300)
"""Seconds of the songs whose real-time factor is computed."""
ROWS = (2, 4, 16, 64)
"""Numbers of sequences in a step."""
ENCODED_SECONDS = 10
WAVE_FRAMES = 100
"""Frames whose waves on two devices are compared."""
SECONDS_TOGETHER, TOGETHER = 60, 32
"""Seconds of each song of a batch, and their number."""


def write_models(setting: Setting) -> Table:
    """Write the random models."""
    models, table = setting.models(), Table(["model", "GB"])
    for path in (models.stage1, models.stage2):
        table.rows.append([path.name, path.stat().st_size / 1e9])
    return table


def whole_songs(setting: Setting) -> Table:
    """Real-time factors of songs: measured steps of both stages and frames of the codec, summed."""
    models, table = setting.models(), Table(["music, s", "draft, s", "refine, s", "render, s", "RTF", "rows"])
    costs = growth.timed(models, setting.options, setting.budget, setting.far)
    with closing(OrtCodec.open(models.codec, hardware.physical_cores())) as codec:
        frame = measure_codec(codec)
    for seconds in SONGS:
        song = growth.summed(models, costs, seconds, setting.options)
        render = frame * FRAME_RATE * seconds
        taken = song["draft"] + song["refine"] + render
        table.rows.append([seconds, song["draft"], song["refine"], render, taken / seconds, song["rows"]])
    table.notes.append("The codec is computed on the CPU.")
    return table


def steps_by_rows(setting: Setting) -> Table:
    """Milliseconds of a step of both stages by its number of sequences."""
    table = Table(["stage", "ids in each", *(f"{rows} rows, ms" for rows in ROWS)])
    ids = setting.far + 256
    if setting.device == "cpu":
        table.notes.append("a CPU has no CUDA graphs: both tables of steps are of the same code")
    for role in STAGES:
        fitting = [rows for rows in ROWS if setting.fits(setting.load(rows, ids), _facts(setting, role))]
        if missing := [rows for rows in ROWS if rows not in fitting]:
            table.notes.append(f"{role}: {missing} rows of {ids} ids do not fit into the free memory")
        if not fitting:
            continue
        with _engine(setting, role, setting.load(fitting[-1], ids)) as engine:
            for length in (NEAR, setting.far):
                found = takes_step.measure(engine, length, fitting, 1, setting.steps)
                cells = [1e3 * seconds for seconds in found] + [""] * (len(ROWS) - len(fitting))
                table.rows.append([role, length, *cells])
    return table


def cache_types(setting: Setting) -> Table:
    """Milliseconds of a step, and bytes of the caches, by their number type."""
    columns = ["stage", "rows", "caches", "of a row, MiB", f"at {NEAR} ids, ms", f"at {setting.far} ids, ms"]
    table = Table(columns)
    rows_of: tuple[tuple[StageRole, int], ...] = (("stage1", 2), ("stage2", 32))
    for (role, rows), kv_type in product(rows_of, ("f16", "q8_0", "q4_0")):
        ids = max(setting.far + 256, CHUNK_IDS if role == "stage2" else 0)
        load, facts = setting.load(rows, ids, kv_type), _facts(setting, role)
        if not setting.fits(load, facts):
            table.notes.append(f"{role}: {rows} rows in {kv_type} do not fit into the free memory")
            continue
        with _engine(setting, role, load) as engine:
            cost = measure(engine, setting.budget, setting.far)
        row = ids * facts.kv_width * KV_BYTES[kv_type] / 2**20
        near, far = (1e3 * cost.seconds(rows, rows * length) for length in (NEAR, setting.far))
        table.rows.append([role, rows, kv_type, row, near, far])
    return table


def many_songs(setting: Setting) -> Table:
    """One song, and many together."""
    columns = ["songs", "draft of all, s", "refine of all, s", "rows", "songs an hour", "RTF of each"]
    table = Table(columns)
    steps = Steps(setting.models(), SECONDS_TOGETHER, setting.budget, setting.options, setting.far)
    for songs in (1, TOGETHER):
        load = setting.load(2 * songs, setting.far + 256)
        if not setting.fits(load, _facts(setting, "stage1")):
            table.notes.append(f"{songs} songs together do not fit into the free memory")
            continue
        draft, (refine, rows) = steps.draft(songs), steps.refine(songs)
        each = (draft + refine) / songs
        table.rows.append([songs, draft, refine, rows, 3600 / each, each / SECONDS_TOGETHER])
    return table


def codec(setting: Setting) -> Table:
    """Codec and upsamplers by ONNX Runtime's execution provider."""
    folder, threads = setting.models().codec, hardware.physical_cores()
    table = Table(["provider", "RTF of rendering both tracks", "RTF of encoding", "largest difference"])
    draws = np.random.default_rng(0)
    wave = 0.1 * draws.standard_normal(16_000 * ENCODED_SECONDS).astype(np.float32)
    codes = draws.integers(0, 1024, (CODEBOOKS, WAVE_FRAMES)).astype(np.int16)
    waves = []
    for name in ("CPUExecutionProvider", "CUDAExecutionProvider"):
        if name not in build_info()["providers"]:
            table.notes.append(f"this ONNX Runtime has no {name}: pip install onnxruntime-gpu in its place")
            continue
        providers = CPU if name in CPU else (name, *CPU)
        with closing(OrtCodec.open(folder, threads, providers=providers)) as opened:
            frame = measure_codec(opened)
            opened.encode(wave)
            begun = time.perf_counter()
            opened.encode(wave)
            encoding = (time.perf_counter() - begun) / ENCODED_SECONDS
            waves.append(opened.upsample(codes, "vocal"))
        difference = float(np.abs(waves[-1] - waves[0]).max())
        table.rows.append([name, frame * FRAME_RATE, encoding, difference])
    return table


def _facts(setting: Setting, role: StageRole) -> ModelFacts:
    path = getattr(setting.models(), role)
    return model_facts(read_model(path).shape, path.stat().st_size)


@contextmanager
def _engine(setting: Setting, role: StageRole, load: LoadSpec) -> Iterator[LlamaEngine]:
    options = EngineOptions(
        load.ids,
        load.rows,
        hardware.physical_cores(),
        load.kv_type,
        load.flash,
        load.batch,
        gpu_layers=load.gpu_layers,
    )
    with closing(LlamaEngine(getattr(setting.models(), role), options)) as engine:
        yield engine


def _others(name: str, needed: str) -> Callable[[Setting], Table]:
    """A measurement of other programs; PyTorch is imported only for it, and where `needed` is installed."""

    def work(setting: Setting) -> Table:
        if importlib.util.find_spec(needed) is None:
            raise ImportError(name=needed)
        from benchmarks.gpu import others

        measured: Callable[[Setting], Table] = getattr(others, name)
        return measured(setting)

    return work


WORK: dict[str, Callable[[Setting], Table]] = {
    "models": write_models,
    "songs": whole_songs,
    "steps": steps_by_rows,
    "kv": cache_types,
    "batch": many_songs,
    "codec": codec,
    "upstream1": _others("upstream_stage1", "transformers"),
    "upstream2": _others("upstream_stage2", "transformers"),
    "vllm": _others("vllm_steps", "vllm"),
}
"""Name → measurement."""
