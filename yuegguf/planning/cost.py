"""What computing costs: bytes before anything is loaded, seconds once a few steps were timed.

Pure arithmetic over a model's shape; `speed` does the timing, `plan` the choosing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yuegguf.lm.header import ModelFacts
from yuegguf.lm.protocol import MAX_BATCH
from yuegguf.stages.stage2 import CHUNK_PROMPT_IDS

WORKSPACE = 150 * 2**20
"""Bytes for Python, libraries and llama.cpp's buffers, without the attention scores."""
ROUNDED = 256
"""llama.cpp makes a row's cache a multiple of this many ids (`llama-context.cpp`)."""
GPU_WORKSPACE = 700 * 2**20
"""Bytes of a GPU's memory for its runtime and llama.cpp's buffers, without the attention scores."""
ALL = -1
"""As a number of layers: all, and the output with them."""
KV_BYTES = {"f16": 2.0, "f32": 4.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Number type of the caches → bytes of an element, block scales included."""
STEPS_PER_FRAME = {"stage1": 2, "stage2": 7}


@dataclass(frozen=True)
class LoadSpec:
    """How a model is held; its bytes follow from this and its shape."""

    rows: int
    ids: int
    """Per row."""
    kv_type: str = "f16"
    flash: bool = False
    """Flash attention never holds the scores of a whole block."""
    batch: int = MAX_BATCH
    gpu_layers: int = 0

    def own_bytes(self, facts: ModelFacts, shared: bool = False) -> int:
        """Of the machine's memory: weights, caches, attention scores of one prompt block, the rest.

        `shared` where a GPU has no memory of its own.
        """
        here = 1.0 if shared else 1 - self._share(facts)
        return round(here * self._layers(facts)) + (self._scores(facts) if here else 0) + WORKSPACE

    def gpu_bytes(self, facts: ModelFacts) -> int:
        """Of the GPU's memory."""
        if not self.gpu_layers:
            return 0
        return round(self._share(facts) * self._layers(facts)) + self._scores(facts) + GPU_WORKSPACE

    def _layers(self, facts: ModelFacts) -> int:
        """Bytes of weights and caches."""
        return facts.bytes + round(self.rows * self._cells * facts.kv_width * KV_BYTES[self.kv_type])

    @property
    def _cells(self) -> int:
        """Ids that a row's cache has room for."""
        return -(-self.ids // ROUNDED) * ROUNDED

    def _scores(self, facts: ModelFacts) -> int:
        return 0 if self.flash else 4 * facts.heads * self._cells * self.batch

    def _share(self, facts: ModelFacts) -> float:
        """Of the layers, how many are on the GPU."""
        return 1.0 if self.gpu_layers < 0 else min(1.0, self.gpu_layers / facts.layers)


@dataclass(frozen=True)
class StepCost:
    """Seconds of one decode step as a sum; true while weights are read once for all rows."""

    step: float
    """Of any step: the weights are read once."""
    row: float
    """For each row in it."""
    cell: float
    """For each id that the rows' caches hold."""
    prompt: float
    """Of one id of a prompt, read in blocks."""

    def seconds(self, rows: int, cells: int) -> float:
        """One step of `rows` rows that hold `cells` ids together."""
        return self.step + rows * self.row + cells * self.cell


def draft_seconds(
    cost: StepCost,
    prompts: Sequence[int],
    frames: Sequence[int],
    guided: bool,
    n_ctx: int | None = None,
    header: int = 0,
    takes: int = 1,
) -> float:
    """Stage 1: ids of each section's own prompt (the header with the first) and its frames → seconds.

    The context grows from section to section; the unconditional row starts anew in each. Where a section
    would not fit into `n_ctx` ids the oldest go, and what is left is read anew behind the header. All `takes`
    of a song share their steps and the first prompt.
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


def drawn_ids(prompts: Sequence[int], frames: Sequence[int], guided: bool, share: float) -> int:
    """Ids in stage 1's rows when a share, 0 … 1, of all frames is drawn; the rest as in `draft_seconds`."""
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
    """Stage 2: frames of each chunk, the longest first, in waves of `rows` → seconds."""
    total = 0.0
    for start in range(0, len(lengths), rows):
        wave = lengths[start : start + rows]
        total += cost.prompt * sum(CHUNK_PROMPT_IDS + frames for frames in wave)
        for i, frames in enumerate(sorted(wave)):
            # between two ends the rows that are left go on together
            before = sorted(wave)[i - 1] if i else 0
            taken = steps * (frames - before)
            left = wave[: len(wave) - i]
            cells = sum(CHUNK_PROMPT_IDS + own for own in left) + len(left) * 4 * (before + frames)
            total += taken * cost.seconds(len(left), cells)
    return total
