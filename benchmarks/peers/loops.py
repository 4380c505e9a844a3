"""The official loops as transformers runs them, and the best ones in PyTorch, timed at some places.

Sources of the official ones: YuE `inference/infer.py`, `stage1` and `stage2_generate`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from transformers import LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList

from benchmarks.peers.models import LeanLlama

FRAME_IDS = 8
CHUNK = 300
OFFICIAL_ROWS = 4
"""Chunks that the official stage 2 takes at once."""
SAMPLING = {"do_sample": True, "top_p": 0.93, "temperature": 1.0, "repetition_penalty": 1.1}


@dataclass(frozen=True)
class Places:
    """Seconds at two places, and in between along a line."""

    near: int
    far: int
    near_seconds: float
    far_seconds: float

    def at(self, place: float) -> float:
        """Seconds at any place."""
        slope = (self.far_seconds - self.near_seconds) / (self.far - self.near)
        return self.near_seconds + slope * (place - self.near)


@dataclass(frozen=True)
class Stage1Times:
    """Times of a stage-1 loop with guidance."""

    step: Places
    prompt: float
    """Seconds of one id of a prompt."""
    kept: bool
    """Whether the KV cache of the conditional sequence outlives a section."""

    def song(self, sections: list[int], prompts: list[int]) -> float:
        """Steps and prompt ids of each section → seconds."""
        total, context = 0.0, 0
        for steps, ids in zip(sections, prompts, strict=True):
            context += ids
            total += self.prompt * (ids if self.kept else context)
            total += steps * self.step.at(context + steps / 2)
            context += steps
        return total


def _ids(model: LlamaForCausalLM, rows: int, count: int) -> torch.Tensor:
    draws = np.random.default_rng(count)
    return torch.from_numpy(draws.integers(3, model.config.vocab_size, (rows, count))).to(model.device)


def _rounds(model: LlamaForCausalLM) -> int:
    """Number of runs, of which the last counts: a GPU's first one picks kernels and memory."""
    return 1 if model.device.type == "cpu" else 2


def _timed(model: LlamaForCausalLM, work: Callable[[], object]) -> float:
    for _ in range(_rounds(model)):
        begun = time.perf_counter()
        work()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - begun


def official_stage1(model: LlamaForCausalLM, near: int, far: int, steps: int) -> Stage1Times:
    """`model.generate` with guidance: two passes a step, the whole context read anew for each section."""

    def generate(place: int) -> list[float]:
        """Seconds until the first id is drawn, and from each to the next."""
        ids, clock = _ids(model, 1, place), Clock()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=1 + steps,
            max_new_tokens=1 + steps,
            guidance_scale=1.5,
            stopping_criteria=StoppingCriteriaList([clock]),
            **SAMPLING,
        )
        return clock.between()

    for _ in range(_rounds(model)):
        first, late = generate(near), generate(far)
    places = Places(near, far, statistics.median(first[1:]), statistics.median(late[1:]))
    return Stage1Times(places, late[0] / far, kept=False)


class Clock(StoppingCriteria):
    """Notes when each id was drawn, and stops nothing."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Note the time after each sample; reading an id waits for a GPU."""
        int(input_ids[0, -1])
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def between(self) -> list[float]:
        """Seconds from each note to the next."""
        return [later - sooner for sooner, later in pairwise(self.times)]


def lean_stage1(model: LlamaForCausalLM, near: int, far: int, steps: int) -> Stage1Times:
    """Both rows in one batch, caches kept and written in place, the same sampling.

    Both rows are taken as long as the conditional one, as a padded batch is.
    """
    lean = LeanLlama(model, 2, far + steps + 1)

    def read() -> None:
        lean.used = 0
        lean(_ids(model, 1, near))

    prompt = _timed(model, read)
    found = []
    for place in (near, far):
        if lean.used < place:
            lean(_ids(model, 1, place - lean.used))
        next_ids = torch.full((2, 1), 5, device=model.device)
        lean(next_ids)

        def work(ids: torch.Tensor = next_ids, place: int = place) -> None:
            lean.used = place
            for _ in range(steps):
                sampled(lean(ids))

        found.append(_timed(model, work) / steps)
    return Stage1Times(Places(near, far, found[0], found[1]), prompt / near, kept=True)


def sampled(logits: torch.Tensor) -> int:
    """Guidance, top-k, top-p and a draw from logits [2, vocab]."""
    cond, uncond = logits.float().log_softmax(-1)
    scores, places = (uncond + 1.5 * (cond - uncond)).topk(50)
    chances = scores.softmax(-1)
    chances[chances.cumsum(-1) - chances > SAMPLING["top_p"]] = 0
    return int(places[torch.multinomial(chances, 1)])


def official_stage2(model: LlamaForCausalLM) -> Callable[[int], float]:
    """Seconds of one frame of OFFICIAL_ROWS rows by its number: everything before it is read anew."""

    def frame(number: int) -> float:
        ids = _ids(model, OFFICIAL_ROWS, CHUNK + 3 + FRAME_IDS * number)
        mask = torch.ones_like(ids)
        return _timed(
            model,
            lambda: model.generate(
                ids, attention_mask=mask, min_new_tokens=7, max_new_tokens=7, do_sample=False
            ),
        )

    return frame


def lean_stage2(model: LlamaForCausalLM, rows: int) -> Callable[[int], float]:
    """Seconds of one frame of `rows` rows by its number: caches kept, seven steps."""
    lean = LeanLlama(model, rows, CHUNK + 3 + FRAME_IDS * CHUNK)

    def frame(number: int) -> float:
        def work() -> None:
            lean.used = CHUNK + 3 + FRAME_IDS * number
            for count in (2, 1, 1, 1, 1, 1, 1):
                lean(torch.full((rows, count), 5, device=model.device)).argmax(-1)

        return _timed(model, work)

    return frame


def chunk_seconds(frame: Callable[[int], float]) -> float:
    """A whole chunk from its first, middle and last frame, by Simpson's rule (exact for a parabola)."""
    frame(0)
    first, middle, last = (frame(number) for number in (0, CHUNK // 2, CHUNK - 1))
    return CHUNK * (first + 4 * middle + last) / 6
