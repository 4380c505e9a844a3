"""Both stages at the real shapes under a hard limit of memory: what a plan says, and what is held.

    python -m benchmarks.small_memory --folder DIR [--limit 4] [--stage1 Q3_K_S] [--stage2 Q8_0]
        [--kv-type q8_0] [--seconds 60] [--read 1024] [--steps 200]

A child process, whose address space the system limits to --limit GiB, opens stage 1 as planned for a song
of --seconds, reads --read ids (by default all but the last --steps), takes --steps steps with both rows,
closes it, and does the same with all rows of stage 2. llama.cpp clears the whole caches when it opens
them, so they count from then on. The random models stay in DIR. Address space is more than memory: it
counts the code of all libraries, and what is reserved and never touched.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.growth import planned, random_models
from yuegguf.errors import NotEnoughMemory
from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.pipeline import engines, preflight
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions

GIB = 2**30


def fill(engine: TokenEngine, read: int | None, steps: int) -> dict[str, Any]:
    """Read ids into all sequences, then take steps → seconds and peak bytes."""
    before, begun = min(read or engine.n_ctx, engine.n_ctx - steps), time.perf_counter()
    engine.decode([SequenceInput(0, [10 + place % 1000 for place in range(before)])])
    for row in range(1, engine.n_rows):
        engine.copy(0, row)
    seconds = time.perf_counter() - begun
    passed = []
    for _ in range(steps):
        begun = time.perf_counter()
        engine.decode([SequenceInput(row, [10]) for row in range(engine.n_rows)])
        passed.append(time.perf_counter() - begun)
    return {
        "rows": engine.n_rows,
        "ids": engine.n_ctx,
        "read": before,
        "read_seconds": seconds,
        "step": statistics.median(passed),
        "peak": hardware.peak_memory(),
    }


def hold(options: argparse.Namespace) -> None:
    """Plan, then one stage after the other in this process; prints a JSON object a stage."""
    models = random_models(options.folder, options.stage1, stage2=options.stage2)
    compute = ComputeOptions(kv_type=options.kv_type, max_memory=round(options.limit * GIB))
    plan, _ = planned(models, options.seconds, compute)
    facts = preflight.read_models(models).facts
    parts = engines.engine_factory(models, plan, compute, threading.Event())
    for role, load, model in (
        ("stage1", plan.stage1(), facts.stage1),
        ("stage2", plan.stage2(), facts.stage2),
    ):
        hardware.forget_peak()
        first = role == "stage1"
        opened = parts.stage1(plan.stage1_rows, plan.n_ctx) if first else parts.stage2(plan.stage2_rows)
        with closing(opened) as engine:
            measured = fill(engine, options.read, options.steps)
        print(json.dumps({"role": role, "planned": load.own_bytes(model), **measured}), flush=True)


def main() -> int:
    """Measure in a limited child, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=4.0, help="GiB")
    parser.add_argument("--stage1", default="Q3_K_S")
    parser.add_argument("--stage2", default="Q8_0")
    parser.add_argument("--kv-type", default="q8_0")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--read", type=int, help="ids; default: all but the last steps")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        try:
            hold(options)
        except NotEnoughMemory as error:
            print(f"{error.message}; {error.hint}", file=sys.stderr)
            return error.exit_code
        return 0
    random_models(options.folder, options.stage1, stage2=options.stage2)
    limit = round(options.limit * GIB)
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.small_memory", *sys.argv[1:], "--child"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    kinds = {"stage1": options.stage1, "stage2": options.stage2}
    print(f"{hardware.cpu_name()}, at most {options.limit:g} GiB of addresses, {options.seconds} s of music")
    print(f"| stage | type | held | planned | held at most | ids read | a step then |\n{'|---' * 7}|")
    for line in child.stdout or ():
        row = json.loads(line)
        held = f"{row['rows']} rows of {row['ids']:,} ids, {options.kv_type}"
        sizes = f"{row['planned'] / GIB:.2f} GiB | {row['peak'] / GIB:.2f} GiB"
        speed = f"{row['read']:,} | {1e3 * row['step']:.0f} ms"
        print(f"| {row['role']} | {kinds[row['role']]} | {held} | {sizes} | {speed} |", flush=True)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
