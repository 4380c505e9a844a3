"""A stage-1 task, and the interfaces that stage 1 needs from outside: the token log and cache snapshots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import RequestError
from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.progress import Progress, silent
from yuegguf.request.sampling import Sampling
from yuegguf.stages.faults import Fault
from yuegguf.stages.lookahead import MIN_CONFIDENCE
from yuegguf.stages.prompt import Prompt

END_OF_AUDIO = -1
"""Stands for the model's end-of-audio token in a journal."""

FaultCheck = Callable[[int, Sequence[int], bool], Fault | None]
"""Section, its codes [2·frames] so far and whether these are all → its fault, or None."""


class Journal(Protocol):
    """Durable record of every sampled code."""

    def codes(self, section: int) -> Sequence[int]:
        """Codes of a section that are already sampled; END_OF_AUDIO may be the last."""
        ...

    def append(self, section: int, code: int) -> None:
        """Record one sampled code before it is used."""
        ...

    def restart(self, section: int, keep: int) -> None:
        """Drop the codes of the last section after its first `keep`; it is generated again from there."""
        ...

    def attempt(self, section: int) -> int:
        """Number of restarts of a section."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """Position at which a candidate's KV caches can be saved: before its last sampled id is fed."""

    section: int
    codes: int
    """Number of codes sampled of this section, at least one."""
    first: int
    """Oldest section in the context."""
    start: int = field(default=0, compare=False)
    """Ids in the conditional sequence before this section's prompt, to which a restart returns."""


class Snapshots(Protocol):
    """Saved KV caches of a candidate, which shorten the replay at a resume."""

    def latest(self) -> Checkpoint | None:
        """Position of the newest usable snapshot."""
        ...

    def offer(self, engine: TokenEngine, seqs: Sequence[int], checkpoint: Checkpoint) -> None:
        """Save the caches of the sequences now, or decline."""
        ...

    def restore(self, engine: TokenEngine, seqs: Sequence[int]) -> None:
        """Load the newest snapshot into the engine. Raises DamagedFile, StorageError."""
        ...


@dataclass(frozen=True)
class ForcedTrack:
    """Track of fixed codes (teacher forcing): the other track is sampled conditioned on it."""

    track: int
    """0 = vocal, 1 = instrumental."""
    codes: NDArray[np.int16]
    """Codebook 0 of the whole song [T], from its first frame."""
    sets_length: bool
    """Sections always run to their caps, as the track is as long as the song; else the model may end them."""


@dataclass(frozen=True)
class KeptPrefix:
    """Beginning of a song that is fed like a prompt instead of sampled; its codes are in the journal."""

    sections: int = 0
    """Number of whole sections."""
    codes: int = 0
    """Number of codes of the section after them, which continues from there; even."""


@dataclass(frozen=True)
class Stage1Task:
    """Everything that determines the codes of one candidate."""

    prompt: Prompt
    caps: Sequence[int]
    """Maximum frames of each section."""
    sampling: Sampling
    seed: int
    labels: Sequence[str] = ()
    """Section names for the progress notes."""
    candidate: int = 0
    speculative: bool = True
    """Feed a drafted code beside the last one (see `lookahead`); off where candidates fill the batch."""
    confidence: float = MIN_CONFIDENCE
    """Minimum confidence of a drafted code."""
    kept_prefix: KeptPrefix = KeptPrefix()
    forced: ForcedTrack | None = None
    fault_check: FaultCheck | None = None
    retries: int = 0
    """Maximum restarts of a section with a certain fault."""
    n_ctx: int | None = None
    """Maximum ids of context; None = the engine's. Beside other songs the engine's may be longer."""

    def kept_codes(self, section: int) -> int:
        """Number of kept codes at the beginning of the first section that is generated; 0 for the others."""
        return self.kept_prefix.codes if section == self.kept_prefix.sections else 0


@dataclass(frozen=True)
class CandidateTask:
    """Task of one candidate, its journal, its snapshots and the callback for its progress."""

    task: Stage1Task
    journal: Journal
    snapshots: Snapshots | None = None
    progress: Progress = silent

    @property
    def n_seqs(self) -> int:
        """Sequences that it needs: two with guidance, else one."""
        return 2 if self.task.sampling.guided else 1


def section_context(
    task: Stage1Task, vocab: Stage1Vocab, codes: Sequence[NDArray[np.int16]], first: int, section: int
) -> list[int]:
    """Ids before the first code of a section: the header, then the sections from `first` on.

    `codes` holds the codes [2·frames] of every earlier section.
    """
    prompt, ids = task.prompt, list(task.prompt.header)
    for i in range(first, section + 1):
        if i > first:
            ids += prompt.end_of_segment
        ids += prompt.sections[i]
        if i < section:
            ids += [*vocab.ids(codes[i]), vocab.eoa]
    return ids


def check_context(task: Stage1Task, n_ctx: int) -> None:
    """Raise RequestError when a section does not fit into the context even without earlier ones."""
    for number, (ids, cap) in enumerate(zip(task.prompt.sections, task.caps, strict=True), 1):
        need = len(task.prompt.header) + len(ids) + 2 * cap + 1
        if need > n_ctx:
            raise RequestError(
                f"section {number} needs {need} ids of context, of {n_ctx}",
                "use a larger --ctx, a shorter --segment-seconds or fewer lyrics",
            )


class PendingIds(NamedTuple):
    """Ids to feed in the next step, for each of a candidate's two sequences."""

    cond: list[int]
    uncond: list[int]
