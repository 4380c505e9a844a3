"""One choice from the logits of a step: by the compiled sampler where it was built, else by `sampler`.

Both follow the same formulas. Numpy's calls are slow with cold caches, as they are after a step of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.request.sampling import Sampling
from yuegguf.stages import sampler

compiled: Callable[..., int] | None = None
"""`_sampler.sample`; None where it was built without a C compiler, or without Python's headers."""
with suppress(ImportError):
    from yuegguf.stages import _sampler

    compiled = _sampler.sample


class StepOptions(NamedTuple):
    """Options of one sample that its position in the song decides."""

    guidance: float
    random: float
    """In [0, 1)."""
    may_end: bool


def sample_step(
    logits: NDArray[np.float32],
    in_context: NDArray[np.bool_],
    vocab: Stage1Vocab,
    options: Sampling,
    step: StepOptions,
) -> int:
    """Logits [1 or 2, n_vocab], choices in the context [1025] → a choice.

    Raises FloatingPointError for logits that are not numbers.
    """
    if compiled is None:
        return sample_by_numpy(logits, in_context, vocab, options, step)
    return compiled(
        logits,
        in_context,
        vocab.eoa,
        vocab.codebook0,
        step.guidance,
        options.repetition_penalty,
        options.temperature,
        options.top_k,
        options.top_p,
        step.random,
        step.may_end,
    )


def sample_by_numpy(
    logits: NDArray[np.float32],
    in_context: NDArray[np.bool_],
    vocab: Stage1Vocab,
    options: Sampling,
    step: StepOptions,
) -> int:
    """The result of `sample_step` without the compiled sampler."""
    scores = sampler.step_scores(logits, step.guidance, vocab)
    if not np.isfinite(scores.dot(scores)):
        raise FloatingPointError("the logits are not all numbers")
    scores = sampler.penalise(scores, in_context, options.repetition_penalty)
    if not step.may_end:
        scores[sampler.END] = -np.inf
    return sampler.sample_choice(scores, options, step.random)
