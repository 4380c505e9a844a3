"""Stage-1 tasks, a model that repeats itself, and a snapshot, for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from fakes import STAGE1, MemoryJournal, Stage1Engine

from yuegguf.lm.vocab import stage1_vocab
from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage1
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.stage1_task import Checkpoint, Stage1Task

VOCAB = stage1_vocab(STAGE1)


PROMPT = Prompt(
    header=[4, 5, 6, 7],
    sections=[
        [10, 11, VOCAB.soa, VOCAB.xcodec],
        [12, VOCAB.soa, VOCAB.xcodec],
        [13, VOCAB.soa, VOCAB.xcodec],
    ],
    end_of_segment=[20, 21],
)


TASK = Stage1Task(PROMPT, caps=[12, 12, 12], sampling=Sampling(min_new_tokens=4), seed=11)


class OneSnapshot:
    """Takes a snapshot at one checkpoint, and restores it."""

    def __init__(self, at: Checkpoint) -> None:
        self.at, self.fed, self.taken = at, [], False

    def latest(self) -> Checkpoint | None:
        return self.at if self.taken else None

    def offer(self, engine: Stage1Engine, seqs: Sequence[int], checkpoint: Checkpoint) -> None:
        if checkpoint == self.at:
            self.fed, self.taken = [list(engine.fed[seq]) for seq in seqs], True
            self.at = checkpoint

    def restore(self, engine: Stage1Engine, seqs: Sequence[int]) -> None:
        for seq, fed in zip(seqs, self.fed, strict=True):
            engine.fed[seq] = list(fed)


LONG = replace(TASK, caps=[30, 30, 30], sampling=Sampling(min_new_tokens=4, top_p=0.9))


class Refrain(Stage1Engine):
    """A model that mostly repeats the same four frames, and ends a section now and then."""

    def _logits(self, ids: Sequence[int]) -> np.ndarray:
        logits = super()._logits(ids)
        place = len(ids) % 8
        logits[VOCAB.codebook0 + 100 + place] += 14
        return logits


def generate(task: Stage1Task, engine: Stage1Engine, journal: MemoryJournal | None = None) -> list[list[int]]:
    return [
        codes.tolist() for codes in stage1.generate_codes(task, engine, VOCAB, journal or MemoryJournal())
    ]
