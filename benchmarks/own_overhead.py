"""Our loop's own time in stage 1 over llama.cpp's with `nano`, the model that hides it least.

    python -m benchmarks.own_overhead [--frames 600] [--rounds 5]

Both are CPU time of one thread, so that programs on the same cores count little: sampling, the log on disk,
progress and speculative decoding against llama_decode and the logits' pointer.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from yuegguf.lm import llama
from yuegguf.lm.vocab import stage1_vocab
from yuegguf.models.resolve import nano_models
from yuegguf.planning.hardware import cpu_name
from yuegguf.request.sampling import Sampling
from yuegguf.song.token_log import TokenLog
from yuegguf.stages import stage1
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.stage1_task import Stage1Task

PROMPT_IDS = 460
"""Ids of the official example's first prompt."""


def measure(frames: int, seed: int) -> tuple[float, float]:
    """Seconds of llama.cpp and of all else for a section of so many frames."""
    options = llama.EngineOptions(PROMPT_IDS + 2 * frames + 8, 2, threads=1)
    with (
        closing(llama.LlamaEngine(nano_models().stage1, options)) as engine,
        tempfile.TemporaryDirectory() as f,
    ):
        vocab = stage1_vocab(engine.pieces)
        ids = np.random.default_rng(seed).integers(3, vocab.soa, PROMPT_IDS - 2).tolist()
        task = Stage1Task(
            Prompt([], [[*ids, vocab.soa, vocab.xcodec]], []),
            [frames],
            Sampling(min_new_tokens=2 * frames),
            seed,
        )
        begun: list[tuple[float, float]] = []
        with closing(TokenLog.open(Path(f) / "tokens.log")) as log:
            stage1.generate_codes(
                task, engine, vocab, log, progress=lambda _: begun.append((time.thread_time(), engine.busy))
            )
        total, busy = (last - first for first, last in zip(begun[0], begun[-1], strict=True))
        return busy, total - busy


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    setattr(llama, "time", SimpleNamespace(perf_counter=time.thread_time))  # noqa: B010  the engine's clock
    print(f"{cpu_name()}, one thread")
    for seed in range(options.rounds):
        busy, own = measure(options.frames, seed)
        codes = 2 * options.frames / 1e6
        print(f"llama.cpp {busy / codes:6.0f} us a code, all else {own / codes:5.0f} us: {own / busy:.1%}")


if __name__ == "__main__":
    main()
