"""The next code of a candidate: sampled from its logits, or forced."""

from __future__ import annotations

from math import isfinite

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError
from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.stages.sampler import END, penalise, sample_choice, step_scores, uniform
from yuegguf.stages.stage1_task import END_OF_AUDIO, Journal, Stage1Task


class CodeSampler:
    """Samples the codes of one candidate, with random numbers of its own."""

    def __init__(self, task: Stage1Task, journal: Journal, vocab: Stage1Vocab) -> None:
        self.task, self.journal, self.vocab = task, journal, vocab

    def next_code(
        self,
        section: int,
        position: int,
        logits: NDArray[np.float32],
        in_context: NDArray[np.bool_],
        forced: int | None,
    ) -> int:
        """The code at a position of a section, sampled or `forced`; or END_OF_AUDIO.

        Raises EngineError for logits that are not numbers.
        """
        n_new = position - self.task.kept_codes(section)
        # a section ends on a whole frame
        may_end = n_new >= self.task.sampling.min_new_tokens and position % 2 == 0
        if self.task.forced and self.task.forced.sets_length:
            may_end = False
        if forced is not None and not may_end:
            return forced
        scores = self._scores(section, logits, in_context)
        if not may_end:
            scores[END] = -np.inf
        code = self._sample(section, position, scores)
        return code if forced is None or code == END_OF_AUDIO else forced

    def _scores(
        self, section: int, logits: NDArray[np.float32], in_context: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Penalised scores [1025] of the choices. Raises EngineError for NaN or infinity."""
        sampling = self.task.sampling
        scores = step_scores(logits, sampling.guidance(section), self.vocab)
        if not isfinite(scores.dot(scores)):
            raise EngineError(
                "the model's output is not a number", "its file may be damaged: convert it again"
            )
        return penalise(scores, in_context, sampling.repetition_penalty)

    def _sample(self, section: int, position: int, scores: NDArray[np.float64]) -> int:
        task, attempt = self.task, self.journal.attempt(section)
        random = uniform(task.seed, task.candidate, section, position, attempt)
        choice = sample_choice(scores, task.sampling, random)
        return END_OF_AUDIO if choice == END else choice - 1
