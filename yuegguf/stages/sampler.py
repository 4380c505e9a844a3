"""Stage-1 sampler in pure numpy, in the order and with the formulas that transformers executes for
`infer.py`: guidance, repetition penalty, minimum length, mask, temperature, top-k, top-p, sampling.

Everything works on the ids that may be emitted at all, *choices* = [end-of-audio, code 0 … 1023]:
a strict mask by construction. Only guidance reads the whole vocabulary, for its normaliser.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import log

import numpy as np
from numpy.typing import NDArray

from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.request.sampling import Sampling

COND, UNCOND = 0, 1
"""Order of a candidate's sequences, and so of the logits of a step."""
END = 0
"""Index of end-of-audio among the choices; choice 1 + c is code c."""
LOWEST_SCORE = float(np.finfo(np.float64).min)
"""Lowest finite score; keeps masked choices, at minus infinity, out."""
RANDOM_BLOCK = 256
"""Positions whose random numbers are generated at once."""

Scores = NDArray[np.float64]


def choice_logits(logits: NDArray[np.float32], eoa: int, codebook0: int) -> Scores:
    """Logits [n_vocab] → the logits of the choices [1025]."""
    choices = np.empty(1 + 1024)
    choices[END] = logits[eoa]
    choices[1:] = logits[codebook0 : codebook0 + 1024]
    return choices


def log_normaliser(logits: NDArray[np.float32]) -> float:
    """log Σ exp of logits [n_vocab]."""
    top = np.maximum.reduce(logits)
    weights = logits - top
    np.exp(weights, out=weights)
    return float(top) + log(np.add.reduce(weights, dtype=np.float64))


def guided_scores(
    cond: NDArray[np.float32], uncond: NDArray[np.float32], scale: float, eoa: int, codebook0: int
) -> Scores:
    """Classifier-free guidance on log-probabilities over the full vocabulary → choices [1025].

    w·(log p(c) − log p(u)) + log p(u), as `UnbatchedClassifierFreeGuidanceLogitsProcessor`.
    """
    scores, lu = choice_logits(cond, eoa, codebook0), choice_logits(uncond, eoa, codebook0)
    scores -= log_normaliser(cond)
    lu -= log_normaliser(uncond)
    scores -= lu
    scores *= scale
    scores += lu
    return scores


def step_scores(logits: NDArray[np.float32], scale: float, vocab: Stage1Vocab) -> Scores:
    """Logits [1 or 2, n_vocab] of one step → scores of the choices [1025], before the penalty.

    With guidance off upstream adds no processor, so the raw logits stay as they are.
    """
    if scale == 1.0:
        return choice_logits(logits[COND], vocab.eoa, vocab.codebook0)
    return guided_scores(logits[COND], logits[UNCOND], scale, vocab.eoa, vocab.codebook0)


def choices_in_context(ids: Sequence[int], vocab: Stage1Vocab) -> NDArray[np.bool_]:
    """Mask [1025] of the choices among a context's ids; the repetition penalty applies to all of them."""
    context = np.array(ids, np.int64)
    mask = np.zeros(1025, bool)
    mask[END] = bool((context == vocab.eoa).any())
    codes = context - vocab.codebook0
    mask[1 + codes[(codes >= 0) & (codes < 1024)]] = True
    return mask


def penalise(scores: Scores, in_context: NDArray[np.bool_], penalty: float) -> Scores:
    """Make every choice in the context less likely, once (`RepetitionPenaltyLogitsProcessor`)."""
    penalised, old = scores.copy(), scores[in_context]
    penalised[in_context] = np.where(old < 0, old * penalty, old / penalty)
    return penalised


def filtered_choices(scores: Scores, options: Sampling) -> tuple[NDArray[np.intp], Scores]:
    """Choices left by temperature, top-k and top-p, by ascending index, with their scores.

    Keeps ties with the k-th best, the choice that crosses top_p, and always the best.
    """
    choices, values, _ = _filtered(scores, options)
    return choices, values


def _filtered(scores: Scores, options: Sampling) -> tuple[NDArray[np.intp], Scores, Scores]:
    """The result of `filtered_choices`, and the weight of each choice: its probability but for one factor."""
    values = scores if options.temperature in (0.0, 1.0) else scores / options.temperature
    lowest = LOWEST_SCORE
    if options.top_k and len(values) > options.top_k:
        ranked, place = values.copy(), len(values) - options.top_k
        ranked.partition(place)
        lowest = max(lowest, ranked[place])
    choices = (values >= lowest).nonzero()[0]
    values = values.take(choices)
    weights = _weights(values)
    if options.top_p < 1.0:
        # ascending; of equal scores the lower index is the better
        order = len(values) - 1 - values[::-1].argsort(kind="stable")
        total = (weights / np.add.reduce(weights)).take(order).cumsum()
        dropped = int(total.searchsorted(1.0 - options.top_p, side="right"))
        remaining = order[min(dropped, len(order) - 1) :]
        remaining.sort()
        choices, values, weights = choices.take(remaining), values.take(remaining), weights.take(remaining)
    return choices, values, weights


def _weights(scores: Scores) -> Scores:
    """exp(scores), scaled so that the best has 1."""
    return np.asarray(np.exp(scores - np.maximum.reduce(scores)))


def probabilities(scores: Scores) -> Scores:
    """Softmax in float64."""
    weights = _weights(scores)
    return np.asarray(weights / np.add.reduce(weights))


def uniform(seed: int, candidate: int, section: int, position: int, attempt: int = 0) -> float:
    """Random number in [0, 1) that depends on these five values alone (Philox4x64-10, counter-based).

    So a sample is the same however the song was interrupted, resumed or batched.
    """
    return _random_block(seed, candidate, section, attempt, position // RANDOM_BLOCK)[position % RANDOM_BLOCK]


@lru_cache(maxsize=32)
def _random_block(seed: int, candidate: int, section: int, attempt: int, block: int) -> list[float]:
    """Random numbers of RANDOM_BLOCK positions: a counter gives four, of which the first is used."""
    counter = np.array((block * RANDOM_BLOCK, section, candidate, attempt), np.uint64)
    bits = np.random.Philox(key=seed & (2**128 - 1), counter=counter).random_raw(4 * RANDOM_BLOCK)[::4]
    return [(bit >> 11) * 2.0**-53 for bit in bits.tolist()]


def sample_choice(scores: Scores, options: Sampling, random: float) -> int:
    """One choice: the best at temperature 0, else by inverse CDF over the filtered choices."""
    if options.temperature == 0:
        return int(np.argmax(scores))
    choices, _, weights = _filtered(scores, options)
    if len(choices) == 1:
        return int(choices[0])
    total = [*accumulate((weights / np.add.reduce(weights)).tolist())]  # few: quicker than in numpy
    place = bisect_right(total, random * total[-1])
    return int(choices[min(place, len(choices) - 1)])
