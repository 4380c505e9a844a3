"""Lock-step batching: the next step of every unfinished candidate goes to the engine in one call.

A candidate is a generator that yields the inputs of its next step and is sent their logits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.progress import Event, Progress

Result = TypeVar("Result")
StepGenerator = Generator[list[SequenceInput], NDArray[np.float32], Result]
MAX_STEP_IDS = 2
"""Maximum ids of a sequence in a step; an input with more is a prompt."""


class CandidateProgress(Protocol):
    """Attributes of a candidate that its progress report reads."""

    event: Event
    warnings: list[str]
    """Warnings not reported yet."""


class ProgressMux:
    """Merges the progress of several candidates into one."""

    def __init__(self, candidates: Sequence[CandidateProgress], progress: Progress) -> None:
        self._candidates, self._progress = candidates, progress
        self._reported: list[Event | None] = [candidate.event for candidate in candidates]

    def __call__(self, number: int) -> None:
        """Report the warnings of the candidate that took a step, then the progress of all."""
        candidate, many = self._candidates[number], len(self._candidates) > 1
        while candidate.warnings:
            warning = f"take {number + 1}: " * many + candidate.warnings.pop(0)
            self._progress(Event("draft", candidate.event.done, candidate.event.total, warning=warning))
        if candidate.event is not self._reported[number]:
            self._reported[number] = candidate.event
            self._progress(self._merged(candidate.event.note) if many else candidate.event)

    def _merged(self, note: str) -> Event:
        done, total = (
            sum(getattr(candidate.event, name) for candidate in self._candidates)
            for name in ("done", "total")
        )
        return Event("draft", done, total, f"{len(self._candidates)} takes, {note}")


class LockstepBatch(Generic[Result]):
    """Runs candidates to their ends, one batch a step."""

    def __init__(
        self, candidates: Sequence[StepGenerator[Result]], engine: TokenEngine, report: ProgressMux
    ) -> None:
        self._candidates, self._engine, self._report = candidates, engine, report
        self._inputs: dict[int, list[SequenceInput]] = {}
        """Unfinished candidate → inputs of its next step."""
        self._results: dict[int, Result] = {}

    def run(self, same_prompt: bool = False) -> list[Result]:
        """Run every candidate to its end; returns their results in order.

        Prompts are decoded one candidate at a time, as for a candidate alone. With `same_prompt` all begin
        with the same ids in empty sequences, so these are decoded once and their cache is copied.
        """
        for number, candidate in enumerate(self._candidates):
            self._advance(number, lambda candidate=candidate: next(candidate))  # type: ignore[misc]
        if same_prompt and len(self._inputs) == len(self._candidates):
            self._share_prompt()
        while self._inputs:
            prompts = [number for number, inputs in self._inputs.items() if _is_prompt(inputs)]
            for number in prompts:
                self._step([number])
            if not prompts:
                self._step(sorted(self._inputs))
        return [self._results[number] for number in range(len(self._candidates))]

    def _share_prompt(self) -> None:
        first = self._inputs[0]
        if any([i.ids for i in inputs] != [i.ids for i in first] for inputs in self._inputs.values()):
            return
        logits = self._engine.decode([SequenceInput(source.seq, source.ids, 1) for source in first])
        for number, inputs in list(self._inputs.items())[1:]:
            for source, target in zip(first, inputs, strict=True):
                self._engine.copy(source.seq, target.seq)
            self._send(number, logits)
        self._send(0, logits)

    def _step(self, numbers: Sequence[int]) -> None:
        """Decode the next steps of these candidates in one batch."""
        logits = self._engine.decode([each for number in numbers for each in self._inputs[number]])
        for number in numbers:
            count = sum(each.n_logits for each in self._inputs[number])
            candidate_logits, logits = logits[:count], logits[count:]
            self._send(number, candidate_logits)

    def _send(self, number: int, logits: NDArray[np.float32]) -> None:
        self._advance(number, lambda: self._candidates[number].send(logits))
        self._report(number)

    def _advance(self, number: int, step: Callable[[], list[SequenceInput]]) -> None:
        try:
            self._inputs[number] = step()
        except StopIteration as end:
            self._inputs.pop(number, None)
            self._results[number] = end.value


def _is_prompt(inputs: Sequence[SequenceInput]) -> bool:
    return any(len(each.ids) > MAX_STEP_IDS for each in inputs)
