"""What stage 1 is asked to do, and what it needs from outside to do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import RequestError
from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.request.sampling import Sampling
from yuegguf.stages.prompt import Prompt

END_OF_AUDIO = -1
"""The model's own end of a section, in a journal."""

FaultCheck = Callable[[int, Sequence[int], bool], str | None]
"""Section, its codes [2·frames] so far and whether it has ended → what is wrong with it, or None."""


class Journal(Protocol):
    """Remembers every draw; a section's list may end with END_OF_AUDIO."""

    def codes(self, section: int) -> Sequence[int]:
        """The codes of a section that are already drawn."""
        ...

    def append(self, section: int, code: int) -> None:
        """Keep one more draw before anything is made of it."""
        ...

    def restart(self, section: int, keep: int) -> None:
        """The section, which is the last one, begins anew after its first `keep` codes."""
        ...

    def attempt(self, section: int) -> int:
        """How often a section was begun anew."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """A point of the song whose caches can be saved: before the last drawn id is fed."""

    section: int
    codes: int
    """Codes of this section drawn so far, at least one."""
    first: int
    """Oldest section that is still in the context."""


class Snapshots(Protocol):
    """Keeps the engine's caches from time to time, so that a resume need not replay much."""

    def latest(self) -> Checkpoint | None:
        """The newest usable mark."""
        ...

    def offer(self, engine: TokenEngine, rows: Sequence[int], mark: Checkpoint) -> None:
        """A chance to save now; may decline."""
        ...

    def restore(self, engine: TokenEngine, rows: Sequence[int]) -> None:
        """Load the caches of the latest mark into the engine."""
        ...


@dataclass(frozen=True)
class ForcedTrack:
    """A track that is given: the model hears it and sings the other one to it."""

    track: int
    """0 = vocal, 1 = instrumental."""
    codes: NDArray[np.int16]
    """Codebook 0 of the whole song [T], from its first frame."""
    whole: bool
    """Sections run to their caps, since the track's length is the song's; else the model may end them."""


@dataclass(frozen=True)
class KeptPrefix:
    """The beginning of a song that is not drawn but read like a prompt; its codes are in the journal."""

    sections: int = 0
    """Whole sections."""
    codes: int = 0
    """Of the section after them, which goes on from there; an even number."""


@dataclass(frozen=True)
class Stage1Task:
    """What stage 1 is asked to do."""

    prompt: Prompt
    caps: Sequence[int]
    """Most frames of each section."""
    sampling: Sampling
    seed: int
    labels: Sequence[str] = ()
    """Section names for the progress notes."""
    candidate: int = 0
    guesses: bool = True
    """Whether the next code may be fed with the last one (see `guess`): not where candidates fill a batch."""
    given: KeptPrefix = KeptPrefix()
    forced: ForcedTrack | None = None
    judge: FaultCheck | None = None
    retries: int = 0
    """How often a section that the judge finds bad is drawn anew."""

    def begun(self, section: int) -> int:
        """Codes of a section that are given."""
        return self.given.codes if section == self.given.sections else 0


@dataclass(frozen=True)
class CandidateTask:
    """One candidate: what it is to sing and where its draws are kept."""

    draft: Stage1Task
    journal: Journal
    snapshots: Snapshots | None = None


def section_context(
    draft: Stage1Task, vocab: Stage1Vocab, codes: Sequence[NDArray[np.int16]], first: int, section: int
) -> list[int]:
    """All ids before the first code of a section, the header and the sections from `first` on.

    `codes` [2·frames] are those of the sections before it.
    """
    prompt, ids = draft.prompt, list(draft.prompt.header)
    for i in range(first, section + 1):
        if i > first:
            ids += prompt.end_of_segment
        ids += prompt.sections[i]
        if i < section:
            ids += [*vocab.ids(codes[i]), vocab.eoa]
    return ids


def check_context(draft: Stage1Task, n_ctx: int) -> None:
    """Refuse a section that could not be sung even alone, before hours are spent. Raises RequestError."""
    for number, (ids, cap) in enumerate(zip(draft.prompt.sections, draft.caps, strict=True), 1):
        need = len(draft.prompt.header) + len(ids) + 2 * cap + 1
        if need > n_ctx:
            raise RequestError(
                f"section {number} needs {need} ids of context, of {n_ctx}",
                "use a larger --ctx, a shorter --segment-seconds or fewer lyrics",
            )


@dataclass(frozen=True)
class PendingIds:
    """Ids that both rows are to be fed next."""

    cond: list[int]
    uncond: list[int]
