"""The next code of a candidate: sampled from its logits, or forced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError
from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.stages.sampler import END, uniform
from yuegguf.stages.stage1_task import END_OF_AUDIO, Journal, Stage1Task
from yuegguf.stages.step_sampler import StepOptions, sample_step


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
        code = self._sample(section, position, logits, in_context, may_end=may_end)
        return code if forced is None or code == END_OF_AUDIO else forced

    def _sample(
        self,
        section: int,
        position: int,
        logits: NDArray[np.float32],
        in_context: NDArray[np.bool_],
        *,
        may_end: bool,
    ) -> int:
        task, attempt = self.task, self.journal.attempt(section)
        random = uniform(task.seed, task.candidate, section, position, attempt)
        step = StepOptions(task.sampling.guidance(section), random, may_end)
        try:
            choice = sample_step(logits, in_context, self.vocab, task.sampling, step)
        except FloatingPointError as error:
            raise EngineError(
                "the output of stage 1 is not a number", "its file may be damaged: convert it again"
            ) from error
        return END_OF_AUDIO if choice == END else choice - 1
