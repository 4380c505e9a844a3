"""Memory that a plan estimates against the memory in use: models of the real shapes, a child process each.

    python -m benchmarks.plan_memory [--folder DIR] [--only N,…]

The child opens the model as the plan holds it, reads a prompt in every row and takes a few steps; its peak
counts everything resident, the mapped model file too. DIR keeps the random models for the next time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from yuegguf_convert.synthetic import write_synthetic

from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.header import model_facts
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.lm.vocab import StageRole
from yuegguf.planning import hardware
from yuegguf.planning.cost import LoadSpec
from yuegguf.stages.stage2 import CHUNK_IDS

GIB = 2**30
PROMPT, STEPS = 300, 3


@dataclass(frozen=True)
class Case:
    """A model and its load options."""

    role: StageRole
    kind: str
    load: LoadSpec

    def path(self, folder: Path) -> Path:
        """The model's file."""
        return folder / f"{self.role}-{self.kind}.gguf"


CASES = (
    Case("stage1", "Q4_0", LoadSpec(2, 7168)),
    Case("stage1", "Q4_K_M", LoadSpec(2, 2048)),
    Case("stage2", "Q4_0", LoadSpec(4, CHUNK_IDS)),
    Case("stage2", "Q8_0", LoadSpec(8, CHUNK_IDS)),
    Case("stage2", "Q4_0", LoadSpec(16, CHUNK_IDS)),
    Case("stage2", "Q4_0", LoadSpec(8, CHUNK_IDS, "q8_0", flash=True)),
    Case("stage1", "Q4_0", LoadSpec(2, 7168, batch=512)),
)


def hold(case: Case, folder: Path) -> int:
    """Open, read and step; returns the peak in bytes."""
    load, path = case.load, case.path(folder)
    options = EngineOptions(
        load.ids, load.rows, hardware.physical_cores(), load.kv_type, load.flash, load.batch
    )
    with closing(LlamaEngine(path, options)) as engine:
        engine.decode([SequenceInput(0, list(range(10, 10 + PROMPT)))])
        for row in range(1, load.rows):
            engine.copy(0, row)
        for step in range(STEPS):
            engine.decode([SequenceInput(row, [step + 10]) for row in range(load.rows)])
        return hardware.peak_memory() or 0


def measure(number: int, folder: Path) -> tuple[int, int]:
    """Estimated bytes, and peak bytes of a process of its own."""
    case = CASES[number]
    path = case.path(folder)
    if not path.exists():
        write_synthetic(path, case.role, case.kind)
    estimated = case.load.own_bytes(model_facts(read_model(path).shape, path.stat().st_size))
    child = [sys.executable, "-m", "benchmarks.plan_memory", "--folder", str(folder), "--hold", str(number)]
    return estimated, int(subprocess.run(child, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", default=",".join(map(str, range(len(CASES)))))
    parser.add_argument("--hold", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold is not None:
        print(hold(CASES[options.hold], options.folder))
        return
    print("| model | loaded with | estimated | peak | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for number in map(int, options.only.split(",")):
            case = CASES[number]
            estimated, found = measure(number, options.folder or Path(scratch))
            words = ", ".join(f"{name} {value}" for name, value in asdict(case.load).items() if value)
            sizes = f"{estimated / GIB:.2f} GiB | {found / GIB:.2f} GiB | {estimated / found:.3f}"
            print(f"| {case.role} {case.kind} | {words} | {sizes} |", flush=True)


if __name__ == "__main__":
    main()
