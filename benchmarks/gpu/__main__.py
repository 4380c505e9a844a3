"""All measurements of a GPU in one run of limited time, the most important ones first.

    python -m benchmarks.gpu [--minutes 10] [--device cuda] [--model real] [--type Q4_0]
        [--folder bench-models] [--out gpu-results]

Each measurement is a process of its own: one that fails, or takes too long, costs no other one its result.
What does not fit into the time is left out and named with the reason. --out gets gpu.json and gpu.md, written
anew after every measurement; --folder keeps the random models (6 GB), and writing them counts too.
`--device cpu --model nano` runs all of it without a GPU: 350 s on two busy cores, and 32 s,
without PyTorch's loops, on two idle ones of another processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.children import child_work, run_job
from benchmarks.gpu.schedule import Job, Outcome, markdown, run_in_order
from benchmarks.gpu.setting import Setting
from yuegguf.lm.build import build_info, devices
from yuegguf.planning import hardware

NO_GRAPHS = {"GGML_CUDA_DISABLE_GRAPHS": "1"}
JOBS = (
    Job("models", "The models", "models", {"real": 90, "nano": 3}),
    Job("songs", "Whole songs", "songs", {"real": 60, "nano": 15}),
    Job("graphs", "Steps with CUDA graphs", "steps", {"real": 40, "nano": 20}),
    Job("no-graphs", "Steps without CUDA graphs", "steps", {"real": 40, "nano": 20}, NO_GRAPHS),
    Job("batch", "A batch of 32 songs", "batch", {"real": 60, "nano": 25}),
    Job("codec", "Codec and upsamplers", "codec", {"real": 45, "nano": 10}),
    Job("kv", "Types of KV caches", "kv", {"real": 90, "nano": 40}),
    Job("upstream-1", "Other loops, stage 1", "upstream1", {"real": 100, "nano": 40}),
    Job("upstream-2", "Other loops, stage 2", "upstream2", {"real": 100, "nano": 40}),
    Job("vllm", "vLLM", "vllm", {"real": 120, "nano": 5}),
)
"""The most important first. Expected seconds: guesses for an H200; with nano measured on two busy cores."""


def main() -> int:
    """Measure, print a line for each, write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", choices=("real", "nano"), default="real")
    parser.add_argument("--type", default="Q4_0")
    parser.add_argument("--folder", type=Path, default=Path("bench-models"))
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    setting = Setting(options.model, options.device, options.folder, options.type)
    if options.work:
        return child_work(options.work, setting)
    if options.device == "cuda" and build_info()["gpu"] == "no":
        parser.error("this llama.cpp is built without a GPU: build it for one, or pass --device cpu")
    ends = time.monotonic() + 60 * options.minutes
    facts = machine(setting)
    heading = f"{facts['device']}, {options.model} models, {options.type}"
    options.out.mkdir(parents=True, exist_ok=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    done: list[Outcome] = []

    def run(job: Job, seconds: float) -> Outcome:
        outcome = run_job(job, setting, seconds)
        done.append(outcome)
        print(f"{job.title}: {outcome.left_out or f'{outcome.seconds:.0f} s'}", file=sys.stderr, flush=True)
        write(options.out, heading, facts, done)
        return outcome

    outcomes = run_in_order(JOBS, options.model, lambda: ends - time.monotonic(), run)
    write(options.out, heading, facts, outcomes)
    print("\n".join(markdown(heading, outcomes)))
    return 0


def machine(setting: Setting) -> dict[str, Any]:
    """Names of the processor and of the devices, and llama.cpp's build."""
    gpus = [str(each["description"]) for each in devices() if each["kind"] in ("gpu", "igpu")]
    named = ", ".join(gpus) if setting.device == "cuda" and gpus else hardware.cpu_name()
    return {
        "device": named,
        "cpu": hardware.cpu_name(),
        "cores": hardware.physical_cores(),
        "llama.cpp": build_info(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("GGML_")},
        "model": setting.model,
        "type": setting.kind,
    }


def write(folder: Path, heading: str, facts: dict[str, Any], outcomes: list[Outcome]) -> None:
    """Write both files."""
    report = {"machine": facts, "measurements": [asdict(outcome) for outcome in outcomes]}
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    (folder / "gpu.md").write_text("\n".join(markdown(heading, outcomes)) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
