"""Our stage-1 step (two rows, sampling, log on disk) against the bare llama.cpp decode of the same batch.

    python -m benchmarks.stage1_step [--steps 120] [--threads N]

Every step is timed both ways at the same position of the same context: the bare decode runs, is
rolled back, and then our loop takes the same step. A second table compares two rows in one batch
with two decodes of one row each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray
from yuegguf_convert.synthetic import SHAPES, write_synthetic

from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.lm.vocab import stage1_vocab
from yuegguf.planning.hardware import cpu_name, physical_cores
from yuegguf.request.sampling import Sampling
from yuegguf.song.token_log import TokenLog
from yuegguf.stages import stage1
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.stage1_task import Stage1Task

LAYERS = 6
"""Layers of the model, of stage 1's 32; the widths are stage 1's."""
PROMPT_IDS = 460
"""Ids of the official example's first prompt."""


class PairedEngine(LlamaEngine):
    """Takes every single-id step twice: bare and timed, rolled back, then for our loop."""

    bare: list[float]
    separate: list[float]
    ours: list[float]
    entered = 0.0

    def decode(self, rows: Sequence[SequenceInput]) -> NDArray[np.float32]:
        """Measure, then decode as usual."""
        if any(len(row.ids) > 1 for row in rows):
            logits = super().decode(rows)
            self.entered = time.perf_counter()
            return logits
        self.ours_until_here = time.perf_counter() - self.entered
        self.bare.append(self._timed([list(rows)]))
        self.separate.append(self._timed([[row] for row in rows]))
        begun = time.perf_counter()
        logits = super().decode(rows)
        self.ours.append(self.ours_until_here + time.perf_counter() - begun)
        self.entered = time.perf_counter()
        return logits

    def _timed(self, batches: list[list[SequenceInput]]) -> float:
        """Seconds of llama_decode and the logits' pointer alone, for one or two batches; rolled back."""
        seconds = 0.0
        for batch in batches:
            self._batch.fill(batch, self._used)
            begun = time.perf_counter()
            lib.llama_decode(self._ctx, self._batch.struct)
            lib.llama_get_logits(self._ctx)
            seconds += time.perf_counter() - begun
        for row in (row for batch in batches for row in batch):
            lib.llama_memory_seq_rm(self._memory, row.seq, self._used[row.seq], -1)
        return seconds


def measure(path: Path, steps: int, threads: int, folder: Path) -> PairedEngine:
    """Draw `steps` ids with our loop on the model at `path`."""
    engine = PairedEngine(path, EngineOptions(1024, 2, threads))
    engine.bare, engine.separate, engine.ours = [], [], []
    vocab = stage1_vocab(engine.pieces)
    ids = np.random.default_rng(1).integers(300, 20_000, PROMPT_IDS - 2).tolist()
    prompt = Prompt([], [[*ids, vocab.soa, vocab.xcodec]], [])
    log = TokenLog.open(folder / "tokens.log")
    draft = Stage1Task(prompt, [steps // 2], Sampling(min_new_tokens=steps), seed=1)
    stage1.generate_codes(draft, engine, vocab, log)
    log.close()
    engine.close()
    return engine


def main() -> None:
    """Make the model, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=physical_cores())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "model.gguf"
        write_synthetic(path, "stage1", "Q4_0", config=replace(SHAPES["stage1"], layers=LAYERS))
        size = path.stat().st_size
        found = measure(path, options.steps, options.threads, folder)
    bare, separate, ours = (statistics.median(x) * 1e3 for x in (found.bare, found.separate, found.ours))
    ratio = statistics.median(a / b for a, b in zip(found.ours, found.bare, strict=True))
    print(f"{cpu_name()}, {options.threads} threads, {LAYERS} layers, {size / 1e9:.2f} GB, Q4_0")
    print(f"{len(found.ours)} paired steps, medians:")
    print(f"  bare llama.cpp, one batch of two rows   {bare:8.2f} ms")
    print(f"  our step, sampling and log included     {ours:8.2f} ms   {ratio:.3f} x bare")
    print(f"  bare llama.cpp, two decodes of one row  {separate:8.2f} ms   {separate / bare:.3f} x bare")


if __name__ == "__main__":
    main()
