"""Cost of a step of several takes relative to one of a single song, on a random model of stage 1's shape.

    python -m benchmarks.takes_step [--takes 4] [--type Q4_0] [--model FILE]

Both are steps of one id a row, two rows a take, near the start and at 1,000 ids; medians of alternating runs.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from yuegguf_convert.synthetic import write_synthetic

from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.planning.hardware import cpu_name, physical_cores

PLACES, ROUNDS, STEPS, BLOCK = (16, 1000), 4, 4, 100


def step(engine: LlamaEngine, rows: int, length: int, ids: int = 1) -> float:
    """Seconds of a step of `ids` ids, with the logits of each, in `rows` sequences of `length` ids."""
    begun = time.perf_counter()
    engine.decode([SequenceInput(row, [5] * ids, ids) for row in range(rows)])
    passed = time.perf_counter() - begun
    for row in range(rows):
        engine.forget(row, length)
    return passed


def measure(
    engine: LlamaEngine, length: int, counts: Sequence[int], rounds: int = ROUNDS, steps: int = STEPS
) -> list[float]:
    """Median seconds of a step of each number of sequences, at a place; every round takes `steps` of each."""
    fill(engine, length)
    passed: dict[int, list[float]] = {rows: [] for rows in counts}
    for _ in range(rounds):
        for rows in counts:
            passed[rows] += [step(engine, rows, length) for _ in range(steps)]
    return [statistics.median(passed[rows]) for rows in counts]


def fill(engine: LlamaEngine, length: int) -> None:
    """Give every sequence the same `length` ids."""
    for row in range(engine.n_rows):
        engine.forget(row, 0)
    for start in range(0, length, BLOCK):
        engine.decode([SequenceInput(0, list(range(10, 10 + min(BLOCK, length - start))))])
    for row in range(1, engine.n_rows):
        engine.copy(0, row)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--takes", type=int, default=4)
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--model", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or write_synthetic(Path(folder) / "stage1.gguf", "stage1", options.type)
        settings = EngineOptions(PLACES[-1] + 2, 2 * options.takes, physical_cores())
        with closing(LlamaEngine(model, settings)) as engine:
            print(f"{cpu_name()}, {physical_cores()} threads, {options.type}")
            print(f"| ids a row | one take | {options.takes} takes | ratio |\n|---|---|---|---|")
            for length in PLACES:
                one, all_ = measure(engine, length, (2, engine.n_rows))
                print(
                    f"| {length} | {1e3 * one:.0f} ms | {1e3 * all_:.0f} ms | {all_ / one:.2f} |", flush=True
                )


if __name__ == "__main__":
    main()
