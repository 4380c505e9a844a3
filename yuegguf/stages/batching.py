"""Songs that are sung side by side: the steps of all that are still singing are one batch.

A song is a generator that yields the rows of its next step and is sent their logits.
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
"""Most ids of a row in a step; a row with more is a prompt."""


class CandidateProgress(Protocol):
    """One of those who sing, as far as progress goes."""

    event: Event
    warnings: list[str]


class ProgressMux:
    """What several voices report, as one progress."""

    def __init__(self, voices: Sequence[CandidateProgress], progress: Progress) -> None:
        self._voices, self._progress = voices, progress
        self._told: list[Event | None] = [voice.event for voice in voices]

    def __call__(self, number: int) -> None:
        """After a voice went on: its warnings, then how far all are."""
        voice, many = self._voices[number], len(self._voices) > 1
        while voice.warnings:
            warning = f"take {number + 1}: " * many + voice.warnings.pop(0)
            self._progress(Event("draft", voice.event.done, voice.event.total, warning=warning))
        if voice.event is not self._told[number]:
            self._told[number] = voice.event
            self._progress(self._together(voice.event.note) if many else voice.event)

    def _together(self, note: str) -> Event:
        done, total = (
            sum(getattr(voice.event, name) for voice in self._voices) for name in ("done", "total")
        )
        return Event("draft", done, total, f"{len(self._voices)} takes, {note}")


class LockstepBatch(Generic[Result]):
    """Drives songs to their ends."""

    def __init__(
        self, songs: Sequence[StepGenerator[Result]], engine: TokenEngine, report: ProgressMux
    ) -> None:
        self._songs, self._engine, self._report = songs, engine, report
        self._asked: dict[int, list[SequenceInput]] = {}
        """The next step of each that still sings."""
        self._ended: dict[int, Result] = {}

    def sing(self, alike: bool = False) -> list[Result]:
        """What each song returns.

        Prompts are read one by one, as for a song alone; if songs are `alike` they begin with the same one
        in empty rows, so it is read once and copied.
        """
        for number, song in enumerate(self._songs):
            self._take(number, lambda song=song: next(song))  # type: ignore[misc]
        if alike and len(self._asked) == len(self._songs):
            self._read_once()
        while self._asked:
            prompts = [number for number, rows in self._asked.items() if _is_prompt(rows)]
            for number in prompts:
                self._feed([number])
            if not prompts:
                self._feed(sorted(self._asked))
        return [self._ended[number] for number in range(len(self._songs))]

    def _read_once(self) -> None:
        first = self._asked[0]
        if any([row.ids for row in rows] != [row.ids for row in first] for rows in self._asked.values()):
            return
        logits = self._engine.decode([SequenceInput(row.row, row.ids, 1) for row in first])
        for number, rows in list(self._asked.items())[1:]:
            for source, target in zip(first, rows, strict=True):
                self._engine.copy(source.row, target.row)
            self._go_on(number, logits)
        self._go_on(0, logits)

    def _feed(self, numbers: Sequence[int]) -> None:
        """One batch of these songs' steps."""
        logits = self._engine.decode([row for number in numbers for row in self._asked[number]])
        for number in numbers:
            count = sum(row.wanted for row in self._asked[number])
            mine, logits = logits[:count], logits[count:]
            self._go_on(number, mine)

    def _go_on(self, number: int, logits: NDArray[np.float32]) -> None:
        self._take(number, lambda: self._songs[number].send(logits))
        self._report(number)

    def _take(self, number: int, step: Callable[[], list[SequenceInput]]) -> None:
        try:
            self._asked[number] = step()
        except StopIteration as end:
            self._asked.pop(number, None)
            self._ended[number] = end.value


def _is_prompt(rows: Sequence[SequenceInput]) -> bool:
    return any(len(row.ids) > MAX_STEP_IDS for row in rows)
