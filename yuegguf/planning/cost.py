"""Cost of computing: bytes before anything is loaded, seconds once a few steps were timed.

Pure arithmetic over a model's shape; `timing` measures, `plan` decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yuegguf.lm.header import ModelFacts
from yuegguf.lm.protocol import MAX_BATCH
from yuegguf.stages.stage2 import CHUNK_PROMPT_IDS

WORKSPACE = 150 * 2**20
"""Bytes for Python, libraries and llama.cpp's buffers, without the attention scores."""
KV_CACHE_MULTIPLE = 256
"""llama.cpp rounds a sequence's KV cache up to a multiple of this many ids (`llama-context.cpp`)."""
GPU_WORKSPACE = 700 * 2**20
"""Bytes of a GPU's memory for its runtime and llama.cpp's buffers, without the attention scores."""
ALL = -1
"""Number of GPU layers that stands for all of them and the output."""
KV_BYTES = {"f16": 2.0, "f32": 4.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Number type of a KV cache → bytes of an element, block scales included."""
STEPS_PER_FRAME = {"stage1": 2, "stage2": 7}


@dataclass(frozen=True)
class LoadSpec:
    """Load options of a model, which determine its bytes together with its shape."""

    rows: int
    ids: int
    """Ids per sequence."""
    kv_type: str = "f16"
    flash: bool = False
    """Flash attention, which never stores the scores of a whole block."""
    batch: int = MAX_BATCH
    gpu_layers: int = 0
    engines: int = 1
    """Most engines that share the sequences, each with the weights; see `lm.split_engine`."""

    def own_bytes(self, facts: ModelFacts, shared: bool = False) -> int:
        """Bytes of main memory: weights, KV caches, attention scores of one prompt block, WORKSPACE.

        With `shared`, GPU layers take main memory too.
        """
        here = 1.0 if shared else 1 - self._share(facts)
        return round(here * self._layers(facts)) + (self._scores(facts) if here else 0) + WORKSPACE

    def gpu_bytes(self, facts: ModelFacts) -> int:
        """Bytes of GPU memory."""
        if not self.gpu_layers:
            return 0
        return round(self._share(facts) * self._layers(facts)) + self._scores(facts) + GPU_WORKSPACE

    def _layers(self, facts: ModelFacts) -> int:
        """Bytes of weights and KV caches."""
        caches = self.rows * self._cells * facts.kv_width * KV_BYTES[self.kv_type]
        return self.opened * facts.bytes + round(caches)

    @property
    def opened(self) -> int:
        """Number of engines that are opened: no more than sequences."""
        return max(1, min(self.engines, self.rows))

    @property
    def _cells(self) -> int:
        """Capacity of a sequence's KV cache in ids."""
        return -(-self.ids // KV_CACHE_MULTIPLE) * KV_CACHE_MULTIPLE

    def _scores(self, facts: ModelFacts) -> int:
        return 0 if self.flash else 4 * self.opened * facts.heads * self._cells * self.batch

    def _share(self, facts: ModelFacts) -> float:
        """Share of the layers on the GPU, 0 … 1."""
        return 1.0 if self.gpu_layers < 0 else min(1.0, self.gpu_layers / facts.layers)


@dataclass(frozen=True)
class StepCost:
    """Terms of the seconds of a decode step; exact while weights are read once for all sequences."""

    step: float
    """Seconds of every step, in which the weights are read once."""
    row: float
    """Seconds for each sequence in the step."""
    cell: float
    """Seconds for each id in the KV caches of these sequences."""
    prompt: float
    """Seconds of one id of a prompt, which is decoded in blocks."""
    draft: float | None = None
    """Part by which a second id in each of two sequences makes a step longer; None = not timed."""

    def seconds(self, rows: int, cells: int) -> float:
        """Seconds of one step of `rows` sequences with `cells` ids in all."""
        return self.step + rows * self.row + cells * self.cell


def draft_seconds(
    cost: StepCost,
    prompts: Sequence[int],
    frames: Sequence[int],
    *,
    guided: bool,
    n_ctx: int | None = None,
    header: int = 0,
    takes: int = 1,
) -> float:
    """Seconds of stage 1: `prompts` are ids of each section's prompt, the first including the header.

    The context grows from section to section; the unconditional sequence restarts in each. Where a section
    would not fit into `n_ctx` ids, the oldest sections are dropped and the others decoded again after the
    header. All `takes` of a song share their steps and the first prompt.
    """
    total, first = 0.0, 0
    lengths = [
        ids + STEPS_PER_FRAME["stage1"] * count + 1 for ids, count in zip(prompts, frames, strict=True)
    ]
    for i, (ids, count) in enumerate(zip(prompts, frames, strict=True)):
        steps, read = STEPS_PER_FRAME["stage1"] * count, ids
        before = (header if first else 0) + sum(lengths[first:i])
        while n_ctx is not None and first < i and before + ids + steps + 1 > n_ctx:
            first += 1
            before = header + sum(lengths[first:i])
            read = before + ids
        rows, grown = 2 if guided else 1, steps * (steps - 1) // 2
        cells = steps * (before + ids) + rows * grown
        total += read * cost.prompt * (takes if i else 1) + steps * cost.step
        total += takes * (steps * rows * cost.row + cells * cost.cell)
    return total


def sampled_ids(prompts: Sequence[int], frames: Sequence[int], guided: bool, share: float) -> int:
    """Ids in stage 1's sequences once a share (0 … 1) of all frames is sampled; see `draft_seconds`."""
    left = round(share * STEPS_PER_FRAME["stage1"] * sum(frames))
    before = 0
    for ids, count in zip(prompts, frames, strict=True):
        steps = STEPS_PER_FRAME["stage1"] * count
        if left <= steps:
            return before + ids + left + (left if guided else 0)
        before, left = before + ids + steps + 1, left - steps
    return before


def refine_seconds(
    cost: StepCost, lengths: Sequence[int], rows: int, steps: int = STEPS_PER_FRAME["stage2"]
) -> float:
    """Seconds of stage 2: `lengths` are frames of each chunk, longest first, refined `rows` at a time."""
    total = 0.0
    for start in range(0, len(lengths), rows):
        wave = lengths[start : start + rows]
        total += cost.prompt * sum(CHUNK_PROMPT_IDS + frames for frames in wave)
        for i, frames in enumerate(sorted(wave)):
            # between two ends the remaining sequences share their steps
            before = sorted(wave)[i - 1] if i else 0
            taken = steps * (frames - before)
            left = wave[: len(wave) - i]
            cells = sum(CHUNK_PROMPT_IDS + own for own in left) + len(left) * 4 * (before + frames)
            total += taken * cost.seconds(len(left), cells)
    return total
