"""Whole songs at the real shapes: ours, the official loop in PyTorch, and the best loop in PyTorch.

    python -m benchmarks.peers [--song 60] [--type Q4_0] [--stages 1,2] [--far 2000] [--layers N]

Steps are timed at two places (stage 2: three), a song is the sum over all of its steps. Ours is measured
before and after the others, on the same cores. Needs 16 GiB of memory, and 6 GB of disk for Q4_0.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from yuegguf_convert.names import LlamaConfig
from yuegguf_convert.synthetic import SHAPES, write_synthetic

from benchmarks.peers import loops
from benchmarks.peers.models import random_model
from yuegguf.cost import StepCost, draft_seconds, refine_seconds
from yuegguf.engine.llama import EngineOptions, LlamaEngine
from yuegguf.machine import cpu_name, physical_cores
from yuegguf.plan import MAX_STAGE2_ROWS
from yuegguf.speed import measure
from yuegguf.stages import stage2
from yuegguf.vocab import Role

PROMPT, LATER, SECTION_FRAMES = 460, 90, 1500
STEPS = 6
"""Timed at each place of a PyTorch loop."""


def sections(seconds: float) -> tuple[list[int], list[int]]:
    """Frames and prompt ids of each section of a song."""
    count = max(1, round(seconds * 50 / SECTION_FRAMES))
    return [SECTION_FRAMES] * count, [PROMPT, *[LATER] * (count - 1)]


def ours(role: Role, config: LlamaConfig, kind: str, far: int, folder: Path) -> StepCost:
    """Our loop on a random model of that type."""
    path = folder / f"{role}-{kind}.gguf"
    if not path.exists():
        write_synthetic(path, role, kind, config=config)
    rows, ids = (2, 2 * SECTION_FRAMES * 2) if role == "stage1" else (MAX_STAGE2_ROWS, stage2.ROW_IDS)
    with closing(LlamaEngine(path, EngineOptions(ids, rows, physical_cores()))) as engine:
        return measure(engine, 10.0, far)


def stage_one(song: float, config: LlamaConfig, kind: str, far: int, folder: Path) -> dict[str, float]:
    """Seconds of stage 1 by loop."""
    frames, prompts = sections(song)
    steps = [2 * each for each in frames]

    def mine() -> float:
        return draft_seconds(ours("stage1", config, kind, far, folder), prompts, frames, guided=True)

    before = mine()
    model = random_model(config, torch.bfloat16)
    told("stage 1, official")
    official = loops.official_stage1(model, PROMPT, far, STEPS).song(steps, prompts)
    told("stage 1, best PyTorch loop")
    lean = loops.lean_stage1(model, PROMPT, far, STEPS).song(steps, prompts)
    del model
    gc.collect()
    return {"ours": (before + mine()) / 2, "official": official, "lean": lean}


def stage_two(song: float, config: LlamaConfig, kind: str, far: int, folder: Path) -> dict[str, float]:
    """Seconds of stage 2 by loop."""
    lengths = [chunk.frames for chunk in stage2.chunks(sum(sections(song)[0]))]

    def mine() -> float:
        cost = ours("stage2", config, kind, far, folder)
        return refine_seconds(cost, sorted(lengths, reverse=True), MAX_STAGE2_ROWS)

    before = mine()
    model = random_model(config, torch.bfloat16)
    told("stage 2, official")
    each = loops.chunk_seconds(loops.official_stage2(model))
    official = each * len(lengths) / loops.OFFICIAL_ROWS
    told("stage 2, best PyTorch loop")
    lean = loops.chunk_seconds(loops.lean_stage2(model, MAX_STAGE2_ROWS))
    del model
    gc.collect()
    waves = -(-len(lengths) // MAX_STAGE2_ROWS)
    return {"ours": (before + mine()) / 2, "official": official, "lean": lean * waves}


def told(text: str) -> None:
    """Progress with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


STAGES: dict[str, tuple[Role, Callable[..., dict[str, float]]]] = {
    "1": ("stage1", stage_one),
    "2": ("stage2", stage_two),
}


def main() -> None:
    """Measure, print seconds and ratios, and a JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--song", type=float, default=60.0)
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--stages", default="1,2")
    parser.add_argument("--far", type=int, default=2000)
    parser.add_argument("--layers", type=int, help="fewer than the real 32, for a quick look")
    options = parser.parse_args()
    torch.set_num_threads(physical_cores())
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for stage in options.stages.split(","):
            role, measured = STAGES[stage]
            layers = options.layers or SHAPES[role].layers
            config = replace(SHAPES[role], layers=layers)
            found[role] = measured(options.song, config, options.type, options.far, Path(name))
    machine = f"{cpu_name()}, {physical_cores()} cores"
    print(f"{machine}, {options.type} against bfloat16, a song of {options.song:g} s")
    total = {loop: sum(each[loop] for each in found.values()) for loop in ("ours", "lean", "official")}
    columns = ["", *found, "both", "ratio"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for loop, seconds in total.items():
        cells = [f"{each[loop]:.0f} s" for each in found.values()]
        print(f"| {loop} | {' | '.join(cells)} | {seconds:.0f} s | {seconds / total['ours']:.1f} |")
    print(json.dumps({"type": options.type, "song": options.song, **found}))


if __name__ == "__main__":
    main()
