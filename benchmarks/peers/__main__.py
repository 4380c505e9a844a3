"""Whole songs at the real shapes: ours, plain llama.cpp, the best loop in PyTorch, and the official one.

    python -m benchmarks.peers [--song 60] [--type Q4_0] [--stages 1,2] [--far 1000] [--layers N]
        [--device cuda] [--only ours,plain]

Steps are timed at two places (official stage 2: three), a song is the sum over all of its steps. Ours is
measured before and after the others, on the same cores. At the real shapes this needs 20 GiB of memory, and
6 GB of disk for Q4_0.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import LlamaForCausalLM
from yuegguf_convert.llama_tensors import LlamaConfig
from yuegguf_convert.synthetic import SHAPES, write_synthetic

from benchmarks.peers import loops
from benchmarks.peers.models import random_model
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import MAX_BATCH
from yuegguf.lm.vocab import StageRole
from yuegguf.planning.cost import ALL, StepCost, draft_seconds, refine_seconds
from yuegguf.planning.hardware import cpu_name, physical_cores
from yuegguf.planning.plan import GPU_BATCH, MAX_STAGE2_ROWS
from yuegguf.planning.timing import measure
from yuegguf.stages import stage2

PROMPT, LATER, SECTION_FRAMES = 460, 90, 1500
STEPS = {"cpu": 6, "cuda": 60}
"""Timed at each place of a PyTorch loop of stage 1, by device."""
LEAN_ROWS = 20
"""Most chunks that the best PyTorch loop takes at once: its caches, as long as ours, take 0.7 GB each."""


def sections(seconds: float) -> tuple[list[int], list[int]]:
    """Frames and prompt ids of each section of a song."""
    count = max(1, round(seconds * 50 / SECTION_FRAMES))
    return [SECTION_FRAMES] * count, [PROMPT, *[LATER] * (count - 1)]


@dataclass(frozen=True)
class Setting:
    """Settings of a measurement."""

    song: float
    """Seconds."""
    config: LlamaConfig
    kind: str
    """Number type of ours and of plain llama.cpp."""
    far: int
    """Ids in the cache at the later of two places."""
    folder: Path
    device: str
    loops: tuple[str, ...]
    budget: float = 10.0
    """About the seconds of one timing of llama.cpp."""

    def llama(self, role: StageRole, rows: int, ids: int, *, plain: bool = False) -> StepCost:
        """Steps of llama.cpp on a random model: as we use it, or by its defaults on the whole vocabulary."""
        path = self.folder / f"{role}-{self.kind}{'-whole' if plain else ''}.gguf"
        if not path.exists():
            write_synthetic(path, role, self.kind, config=self.config, trim=not plain)
        on_gpu = self.device != "cpu"
        options = EngineOptions(
            ids,
            rows,
            physical_cores(),
            flash_attention=plain or on_gpu,
            batch=GPU_BATCH if plain or on_gpu else MAX_BATCH,
            gpu_layers=ALL if on_gpu else 0,
        )
        with closing(LlamaEngine(path, options)) as engine:
            return measure(engine, self.budget, self.far)

    def compare(self, mine: Callable[[], float], others: dict[str, Callable[[], float]]) -> dict[str, float]:
        """Seconds by loop; ours before and after the others."""
        print_progress("ours")
        before, found = mine(), {}
        for name, measured in others.items():
            if name in self.loops:
                print_progress(name)
                found[name] = measured()
                gc.collect()
        print_progress("ours again")
        return {"ours": (before + mine()) / 2, **found}

    def model(self) -> LlamaForCausalLM:
        """Model for PyTorch's loops."""
        return random_model(self.config, torch.bfloat16, self.device)


def stage_one(setting: Setting) -> dict[str, float]:
    """Seconds of stage 1 by loop."""
    frames, prompts = sections(setting.song)
    steps = [2 * each for each in frames]
    ids = max(4 * SECTION_FRAMES, setting.far + 256)

    def mine() -> float:
        return draft_seconds(setting.llama("stage1", 2, ids), prompts, frames, guided=True)

    def plain() -> float:
        """The rows one after the other, each in a decode of its own."""
        alone = setting.llama("stage1", 1, ids, plain=True)
        empty = [0] * len(prompts)
        return draft_seconds(alone, prompts, frames, guided=False) + sum(
            draft_seconds(alone, empty[:1], [each], guided=False) for each in frames
        )

    def official() -> float:
        return loops.official_stage1(setting.model(), PROMPT, setting.far, STEPS[setting.device]).song(
            steps, prompts
        )

    def lean() -> float:
        return loops.lean_stage1(setting.model(), PROMPT, setting.far, STEPS[setting.device]).song(
            steps, prompts
        )

    return setting.compare(mine, {"plain": plain, "lean": lean, "official": official})


def stage_two(setting: Setting) -> dict[str, float]:
    """Seconds of stage 2 by loop."""
    frames = sum(sections(setting.song)[0])
    lengths = sorted((chunk.frames for chunk in stage2.chunk_grid(frames)), reverse=True)
    rows = stage2.best_rows(lengths, MAX_STAGE2_ROWS)

    def mine() -> float:
        return refine_seconds(setting.llama("stage2", rows, stage2.CHUNK_IDS), lengths, rows)

    def plain() -> float:
        """One track after the other, OFFICIAL_ROWS chunks at once, eight steps a frame."""
        cost = setting.llama("stage2", loops.OFFICIAL_ROWS, stage2.CHUNK_IDS, plain=True)
        return 2 * refine_seconds(cost, lengths[::2], loops.OFFICIAL_ROWS, steps=8)

    def official() -> float:
        each = loops.chunk_seconds(loops.official_stage2(setting.model()))
        return each * len(lengths) / loops.OFFICIAL_ROWS

    def lean() -> float:
        waves = -(-len(lengths) // LEAN_ROWS)
        at_once = -(-len(lengths) // waves)
        return waves * loops.chunk_seconds(loops.lean_stage2(setting.model(), at_once))

    return setting.compare(mine, {"plain": plain, "lean": lean, "official": official})


def print_progress(text: str) -> None:
    """Progress with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


STAGES: dict[str, tuple[StageRole, Callable[[Setting], dict[str, float]]]] = {
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
    parser.add_argument("--far", type=int, default=1000)
    parser.add_argument("--layers", type=int, help="fewer than the real 32, for a quick look")
    parser.add_argument("--device", choices=list(STEPS), default="cpu", help="for all of them")
    parser.add_argument("--only", default="plain,lean,official", help="loops beside ours")
    options = parser.parse_args()
    torch.set_num_threads(physical_cores())
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for stage in options.stages.split(","):
            role, measured = STAGES[stage]
            config = replace(SHAPES[role], layers=options.layers or SHAPES[role].layers)
            wanted = tuple(options.only.split(","))
            print_progress(role)
            found[role] = measured(
                Setting(options.song, config, options.type, options.far, Path(name), options.device, wanted)
            )
    machine = f"{cpu_name()}, {physical_cores()} cores, {options.device}"
    print(f"{machine}, {options.type} against bfloat16, a song of {options.song:g} s")
    print("\n".join(table(found)))
    print(json.dumps({"type": options.type, "song": options.song, **found}))


def table(found: dict[str, dict[str, float]]) -> list[str]:
    """Seconds by loop and stage, and how many times ours."""
    columns = ["", *found, "both", "ratio"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    names = next(iter(found.values()))
    total = {name: sum(stage[name] for stage in found.values()) for name in names}
    for name in names:
        cells = [f"{stage[name]:.0f} s ({stage[name] / stage['ours']:.1f} x)" for stage in found.values()]
        lines.append(
            f"| {' | '.join([name, *cells])} | {total[name]:.0f} s | {total[name] / total['ours']:.1f} |"
        )
    return lines


if __name__ == "__main__":
    main()
