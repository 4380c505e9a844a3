"""The stage-1 sampler in pure numpy, in the order and with the formulas that transformers executes
for `infer.py`: guidance, repetition penalty, minimum length, mask, temperature, top-k, top-p, draw.

Everything works on the ids that may be emitted at all, *choices* = [end-of-audio, code 0 … 1023]:
a strict mask by construction. Only guidance looks at the whole vocabulary, for its normaliser.
"""

from __future__ import annotations

from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from yuegguf.request.sampling import Sampling

END = 0
"""Index of end-of-audio among the choices; choice 1 + c is code c."""


LOWEST_SCORE = float(np.finfo(np.float64).min)
"""Of the scores that are not minus infinity."""


RANDOM_BLOCK = 256
"""Positions whose random numbers are made at once."""


Scores = NDArray[np.float64]


def choice_logits(logits: NDArray[np.float32], eoa: int, codebook0: int) -> Scores:
    """One logits row [n_vocab] → the logits of the choices [1025]."""
    picked = np.empty(1 + 1024)
    picked[END] = logits[eoa]
    picked[1:] = logits[codebook0 : codebook0 + 1024]
    return picked


def log_normaliser(logits: NDArray[np.float32]) -> float:
    """log Σ exp over a whole logits row [n_vocab]."""
    top = np.maximum.reduce(logits)
    return float(top) + log(np.add.reduce(np.exp(logits - top), dtype=np.float64))


def guided_scores(
    cond: NDArray[np.float32], uncond: NDArray[np.float32], scale: float, eoa: int, codebook0: int
) -> Scores:
    """Classifier-free guidance on log-probabilities over the full vocabulary → choices [1025].

    w·(log p(c) − log p(u)) + log p(u), as `UnbatchedClassifierFreeGuidanceLogitsProcessor`.
    """
    lc = choice_logits(cond, eoa, codebook0) - log_normaliser(cond)
    lu = choice_logits(uncond, eoa, codebook0) - log_normaliser(uncond)
    return scale * (lc - lu) + lu


def penalise(scores: Scores, seen: NDArray[np.bool_], penalty: float) -> Scores:
    """Make every choice that the context holds less likely, once (`RepetitionPenaltyLogitsProcessor`)."""
    found, old = scores.copy(), scores[seen]
    found[seen] = np.where(old < 0, old * penalty, old / penalty)
    return found


def filtered_choices(scores: Scores, options: Sampling) -> tuple[NDArray[np.intp], Scores]:
    """The choices left by temperature, top-k and top-p, by ascending index, with their scores.

    Ties with the k-th best are kept; the id that crosses top_p is kept; the best always is.
    """
    values = scores / (options.temperature or 1.0)
    lowest = LOWEST_SCORE
    if options.top_k and len(values) > options.top_k:
        lowest = max(lowest, np.partition(values, -options.top_k)[-options.top_k])
    kept = np.flatnonzero(values >= lowest)
    values = values[kept]
    if options.top_p < 1.0:
        # ascending; of equal scores the lower index is the better
        order = len(values) - 1 - values[::-1].argsort(kind="stable")
        below = probabilities(values)[order].cumsum() <= 1.0 - options.top_p
        below[-1] = False
        stay = order[~below]
        stay.sort()
        kept, values = kept[stay], values[stay]
    return kept, values


def probabilities(scores: Scores) -> Scores:
    """Softmax in float64."""
    weights = np.exp(scores - np.maximum.reduce(scores))
    return np.asarray(weights / np.add.reduce(weights))


def uniform(seed: int, candidate: int, section: int, position: int, attempt: int = 0) -> float:
    """A number in [0, 1) that depends on these five alone (Philox4x64-10, counter-based).

    So a draw is the same however the song was interrupted, resumed or batched.
    """
    return _random_block(seed, candidate, section, attempt, position // RANDOM_BLOCK)[position % RANDOM_BLOCK]


@lru_cache(maxsize=32)
def _random_block(seed: int, candidate: int, section: int, attempt: int, block: int) -> list[float]:
    """The numbers of CHANCES positions at once: a counter gives four, of which the first is taken."""
    counter = np.array((block * RANDOM_BLOCK, section, candidate, attempt), np.uint64)
    bits = np.random.Philox(key=seed & (2**128 - 1), counter=counter).random_raw(4 * RANDOM_BLOCK)[::4]
    return [(bit >> 11) * 2.0**-53 for bit in bits.tolist()]


def sample_choice(scores: Scores, options: Sampling, chance: float) -> int:
    """One choice: the best at temperature 0, else by inverse CDF over the survivors."""
    if options.temperature == 0:
        return int(np.argmax(scores))
    kept, values = filtered_choices(scores, options)
    total = probabilities(values).cumsum()
    place = int(total.searchsorted(chance * total[-1], side="right"))
    return int(kept[min(place, len(kept) - 1)])
