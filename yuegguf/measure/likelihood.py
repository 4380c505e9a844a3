"""Likelihood, under a model file, of codes that a right model sampled.

With teacher forcing: each next id is the sample itself. Stage 1's scores are those of its sampler, with
guidance, repetition penalty, minimum length, top-k and top-p. Stage 2 takes its best choice, so there the set
that it samples from holds one code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.measure.quality import Passage, log_probabilities
from yuegguf.measure.samples import SampledSection
from yuegguf.measure.scoring_engine import READ_BLOCK
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.sampling import Sampling
from yuegguf.stages.prompt import Prompt
from yuegguf.stages.sampler import (
    COND,
    END,
    UNCOND,
    choices_in_context,
    filtered_choices,
    penalise,
    probabilities,
    step_scores,
)


@dataclass(frozen=True)
class SampleScore:
    """A sample under a model file."""

    log_probability: float
    """In nats, before top-k and top-p."""
    expected: float
    """Mean log-probability of what the file itself would sample here, in nats."""
    within: bool
    """Whether it is in the set that the file would sample from."""
    set_size: int
    """Codes in that set."""


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of samples, averaged."""

    samples: int
    within: float
    """Share of the samples in the sets that the file would sample from."""
    mean_log_probability: float
    """In nats."""
    deficit: float
    """Nats by which the samples are less probable than what the file itself would sample: 0 on average where
    it is the model that sampled them."""
    set_size: float
    """Mean size of those sets: of random samples set_size/1025 are within."""

    @property
    def perplexity(self) -> float:
        """e to the negative mean log-probability."""
        return exp(-self.mean_log_probability)


def mean_likelihood(scores: Sequence[SampleScore]) -> Likelihood:
    """Averages over samples, at least one."""
    return Likelihood(
        len(scores),
        float(np.mean([score.within for score in scores])),
        float(np.mean([score.log_probability for score in scores])),
        float(np.mean([score.expected - score.log_probability for score in scores])),
        float(np.mean([score.set_size for score in scores])),
    )


def stage1_ids(prompt: Prompt, sections: Sequence[SampledSection]) -> int:
    """Ids of the context that scoring these sections takes."""
    codes = sum(len(section.codes) + 1 for section in sections)
    markers = len(prompt.end_of_segment) * len(sections)
    return len(prompt.header) + sum(map(len, prompt.sections[: len(sections)])) + markers + codes


def stage1_scores(
    engine: TokenEngine,
    vocab: Stage1Vocab,
    prompt: Prompt,
    sections: Sequence[SampledSection],
    sampling: Sampling,
    *,
    progress: Progress = silent,
) -> Iterator[SampleScore]:
    """Score of every sample of the first sections of a song, end-of-audio included.

    The engine needs two sequences, and READ_BLOCK outputs for each. Raises what decoding raises.
    """
    total = sum(len(section.codes) for section in sections)
    context, fed, done = list(prompt.header), 0, 0
    engine.forget(COND, 0)
    for number, section in enumerate(sections):
        context += [*(prompt.end_of_segment if number else []), *prompt.sections[number]]
        engine.decode([SequenceInput(COND, context[fed:-1], 0)])
        engine.forget(UNCOND, 0)
        in_context = choices_in_context(context, vocab)
        codes = [vocab.codebook0 + code for code in section.codes]
        ids = [context[-1], *codes][: len(codes) + section.ended]
        samples = [1 + code for code in section.codes] + [END] * section.ended
        rows = _step_logits(engine, ids)
        for position, (sample, logits) in enumerate(zip(samples, rows, strict=True)):
            scores = step_scores(logits, sampling.guidance(number), vocab)
            scores = penalise(scores, in_context, sampling.repetition_penalty)
            if position < sampling.min_new_tokens or position % 2:  # as the runtime samples
                scores[END] = -np.inf
            yield _sample_score(scores, sample, sampling)
            in_context[sample] = True
            if position % READ_BLOCK == 0:
                note = f"section {number + 1} of {len(sections)}"
                progress(Event("check", done + position, total, note))
        fed = len(context) - 1 + len(ids)
        context += [*codes, vocab.eoa]
        done += len(codes)


def _step_logits(engine: TokenEngine, ids: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Logits [2, n_vocab] of both sequences after each id, which both are fed."""
    for start in range(0, len(ids), READ_BLOCK):
        block = list(ids[start : start + READ_BLOCK])
        rows = engine.decode([SequenceInput(seq, block, len(block)) for seq in (COND, UNCOND)])
        yield from rows.reshape(2, len(block), -1).swapaxes(0, 1)


def _sample_score(scores: NDArray[np.float64], sample: int, sampling: Sampling) -> SampleScore:
    """A sample among penalised scores [1025]."""
    choices, values = filtered_choices(scores, sampling)
    # the least number keeps the logarithm finite
    logs = np.log(np.maximum(probabilities(scores), np.finfo(np.float64).tiny))
    expected = float(probabilities(values) @ logs[choices])
    return SampleScore(float(logs[sample]), expected, bool((choices == sample).any()), len(choices))


def stage2_scores(
    engine: TokenEngine, passages: Sequence[Passage], *, progress: Progress = silent
) -> Iterator[tuple[int, SampleScore]]:
    """Codebook and score of every code of the passages."""
    for number, passage in enumerate(passages):
        for prediction, scores in zip(passage.predictions, log_probabilities(engine, passage), strict=True):
            log_probability, best = float(scores[prediction.chosen]), float(scores.max())
            score = SampleScore(log_probability, best, log_probability == best, 1)
            yield prediction.codebook, score
        progress(Event("check", number + 1, len(passages), "chunks"))
