"""Songs per hour at the real shapes: steps of N songs together are timed and summed for whole songs.

    python -m benchmarks.throughput_real --folder DIR [--type Q4_0] [--layers N] [--seconds 60]
        [--parallel 1,2,4,8,16] [--budget 10]

A song of sections of 30 s that may not end early. Stage 1 is timed with two sequences a song near the start
and at 1,024 ids, about --budget seconds for each number of songs; stage 2 with the rows that N songs have.
DIR keeps the random models. Audio is not counted. On a GPU, for which llama.cpp has to be built, the same
command uses it: --parallel 1,8,16,32.
"""

from __future__ import annotations

import argparse
import threading
from contextlib import closing
from pathlib import Path

from benchmarks.growth import DEFAULT_OPTIONS, planned, random_models, request
from benchmarks.throughput import numbers
from yuegguf.measure.bench import FIRST_PROMPT_IDS, HEADER_IDS, LATER_PROMPT_IDS
from yuegguf.models.resolve import Models
from yuegguf.pipeline import engines, preflight
from yuegguf.planning import hardware, plan
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import draft_seconds, refine_seconds
from yuegguf.planning.plan import Plan
from yuegguf.planning.timing import measure
from yuegguf.planning.together import rows_for_songs
from yuegguf.request.prepared import prepare

FAR = 1024
"""Ids in the sequences at the later place where steps are timed."""


class Steps:
    """Timed steps of both stages of one model family."""

    def __init__(
        self,
        models: Models,
        seconds: int,
        budget: float,
        options: ComputeOptions = DEFAULT_OPTIONS,
        far: int = FAR,
    ) -> None:
        self.models, self.budget, self.options, self.far = models, budget, options, far
        made, self.frames = planned(models, seconds, options)
        self.plan: Plan = made
        self.lengths = plan.chunk_frames(prepare(request(seconds)))
        self.parts = engines.engine_factory(models, made, options, threading.Event())

    def draft(self, songs: int) -> float:
        """Seconds of stage 1 of so many songs together; each reads its own prompt."""
        prompts = [FIRST_PROMPT_IDS, *[LATER_PROMPT_IDS] * (len(self.frames) - 1)]
        with closing(self.parts.stage1(2 * songs, self.far + 256)) as engine:
            cost = measure(engine, self.budget, self.far)
        shared = draft_seconds(
            cost, prompts, self.frames, guided=True, n_ctx=self.plan.n_ctx, header=HEADER_IDS, takes=songs
        )
        return shared + (songs - 1) * FIRST_PROMPT_IDS * cost.prompt

    def refine(self, songs: int) -> tuple[float, int]:
        """Seconds of stage 2 of so many songs together, and its rows."""
        lengths = sorted(self.lengths * songs, reverse=True)
        facts, devices = preflight.read_models(self.models).facts, engines.find_devices(self.options)
        rows = self.plan.stage2_rows
        if songs > 1:
            rows = rows_for_songs(self.plan, lengths, facts.stage2, self.options, devices)
        with closing(self.parts.stage2(rows)) as engine:
            cost = measure(engine, self.budget, self.far)
        return refine_seconds(cost, lengths, rows), rows


def main() -> None:
    """Time, sum and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--layers", type=int, help="of both models; default: all")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--parallel", default="1,2,4,8,16")
    parser.add_argument("--budget", type=float, default=10.0)
    options = parser.parse_args()
    models = random_models(options.folder, options.type, options.layers)
    steps = Steps(models, options.seconds, options.budget)
    cores = hardware.physical_cores()
    print(f"{hardware.cpu_name()}, {cores} cores, {models.name}, {options.type}, {options.seconds} s each")
    print("| songs | draft of all | refine of all | rows | songs an hour | ratio | draft alone | real time |")
    print("|---|---|---|---|---|---|---|---|")
    first: tuple[float, float] | None = None
    for songs in numbers(options.parallel):
        draft, (refine, rows) = steps.draft(songs), steps.refine(songs)
        hourly = 3600 * songs / (draft + refine)
        first = first or (hourly, songs / draft)
        row = [f"{songs}", f"{draft:.0f} s", f"{refine:.0f} s", f"{rows}", f"{hourly:.2f}"]
        row += [f"{hourly / first[0]:.2f}", f"{songs / draft / first[1]:.2f}"]
        row.append(f"{(draft + refine) / songs / options.seconds:.2f}")
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
