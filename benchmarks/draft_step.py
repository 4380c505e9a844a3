"""Cost of a step of 2, 3 and 4 ids a sequence relative to one of a single id: the price of drafted codes.

    python -m benchmarks.draft_step [--types Q4_0,Q4_K_M,Q8_0] [--layers 4] [--nano] [--folder DIR]

Two sequences of a random stage 1 of the real widths, or of `nano`, near the start and at 1,000 ids; medians
of steps that are taken in turns. The prices are `--prices` of `benchmarks.speculative`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.growth import random_models
from benchmarks.takes_step import PLACES, fill, step
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.models.resolve import nano_models
from yuegguf.planning.hardware import cpu_name, physical_cores

ROWS, MAX_IDS, BLOCK = 2, 4, 2


def measure(engine: LlamaEngine, length: int, rounds: int) -> tuple[list[float], list[float]]:
    """Median seconds of steps of 1 … 4 ids a sequence, and the median ratios to one id of the same round."""
    fill(engine, length)
    counts = range(1, MAX_IDS + 1)
    for ids in counts:
        step(engine, ROWS, length, ids)
    turns = [
        [min(step(engine, ROWS, length, ids) for _ in range(BLOCK)) for ids in counts] for _ in range(rounds)
    ]
    seconds = [statistics.median(column) for column in zip(*turns, strict=True)]
    return seconds, [statistics.median(turn[i] / turn[0] for turn in turns) for i in range(MAX_IDS)]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", default="Q4_0,Q4_K_M,Q8_0")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--nano", action="store_true", help="nano instead of random models")
    parser.add_argument("--folder", type=Path, help="keeps the random models")
    parser.add_argument("--rounds", type=int, default=24)
    options = parser.parse_args()
    print(f"{cpu_name()}, {physical_cores()} threads")
    print("| model, ids in each | 1 id | 2 ids | 3 ids | 4 ids | ratios |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        for name in ["nano"] if options.nano else options.types.split(","):
            models = nano_models() if options.nano else random_models(folder, name, options.layers)
            settings = EngineOptions(PLACES[-1] + 8, ROWS, physical_cores(), outputs=MAX_IDS)
            with closing(LlamaEngine(models.stage1, settings)) as engine:
                for length in PLACES:
                    seconds, ratios = measure(engine, length, options.rounds)
                    times = " | ".join(f"{1e3 * each:.2f} ms" for each in seconds)
                    prices = ", ".join(f"{each:.2f}" for each in ratios[1:])
                    print(f"| {name}, {length} | {times} | {prices} |", flush=True)


if __name__ == "__main__":
    main()
