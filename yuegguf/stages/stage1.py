"""Stage 1: lyrics prompt → codebook-0 codes of both tracks, V0 I0 V1 I1 …, section by section.

The conditional sequence keeps its KV cache from section to section; the unconditional one restarts at each
section's last prompt id and is fed the same new ids, so both are one batch per step. Codes in the journal
are replayed through the very same steps, so a resumed song continues bit for bit.

Several songs, or candidates of one, take their steps in one batch (`batching`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.progress import Event, Progress, silent
from yuegguf.stages.batching import Place, StepBatch
from yuegguf.stages.lookahead import N_TRACKS, NgramDrafter
from yuegguf.stages.next_code import CodeSampler
from yuegguf.stages.sampler import COND, UNCOND, choices_in_context
from yuegguf.stages.stage1_task import (
    END_OF_AUDIO,
    CandidateTask,
    Checkpoint,
    Journal,
    PendingIds,
    Snapshots,
    Stage1Task,
    check_context,
    section_context,
)

CHECK_EVERY = 100
"""Codes between two fault checks: a second of music; checking each code would be slow."""

Logits = NDArray[np.float32]
SectionCodes = NDArray[np.int16]
Steps = Generator[list[SequenceInput], Logits, list[SectionCodes]]


def generate_codes(
    task: Stage1Task,
    engine: TokenEngine,
    vocab: Stage1Vocab,
    journal: Journal,
    *,
    snapshots: Snapshots | None = None,
    progress: Progress = silent,
) -> list[SectionCodes]:
    """Generate every section; returns the codes [2·frames] of each (vocal first), without END_OF_AUDIO.

    Raises RequestError when one section does not fit into the context, EngineError, Interrupted.
    """
    return generate_candidates([CandidateTask(task, journal, snapshots, progress)], engine, vocab)[0]


def generate_candidates(
    tasks: Sequence[CandidateTask], engine: TokenEngine, vocab: Stage1Vocab
) -> list[list[SectionCodes]]:
    """Generate several candidates, in batches of all unfinished ones; see `generate_codes`."""
    batch: StepBatch[list[SectionCodes]] = StepBatch(engine)
    for number, each in enumerate(tasks):
        batch.join(number, each.n_seqs, partial(candidate_steps, each, vocab))
    results = batch.run()
    return [results[number] for number in range(len(tasks))]


def candidate_steps(each: CandidateTask, vocab: Stage1Vocab, place: Place) -> Steps:
    """The steps of a candidate at its place in a batch; see `generate_codes`.

    Its random numbers are its own: beside others only the last bits of its logits are those of a larger
    batch.
    """
    check_context(each.task, each.task.n_ctx or place.engine.n_ctx)
    return (yield from _Candidate(each, place, vocab).generate())


def _section_notes(task: Stage1Task) -> list[str]:
    """Note of the progress in each section."""
    count = len(task.caps)
    names = [f", {label}" for label in task.labels] or [""] * count
    return [f"section {number} of {count}{name}" for number, name in enumerate(names, 1)]


class _Candidate:
    """Decoding state of one candidate: its codes, and the number of ids in the caches of its sequences.

    Methods that need logits are generators: they yield the inputs of a step and are sent its logits.
    """

    def __init__(self, each: CandidateTask, place: Place, vocab: Stage1Vocab) -> None:
        self.task, self.journal, self.snapshots = each.task, each.journal, each.snapshots
        self.place, self.engine, self.vocab = place, place.engine, vocab
        self.sampler, self.progress = CodeSampler(self.task, self.journal, vocab), each.progress
        self.n_ctx = each.task.n_ctx or place.engine.n_ctx
        place.fixed_pairs = each.task.forced is not None
        self.event = Event("draft", 0, sum(each.task.caps))
        self.notes = _section_notes(each.task)
        self.n_fed = 0
        """Ids of the current context in the conditional sequence."""
        self.n_fed_uncond = 0
        """Ids in the unconditional sequence."""
        self.section_start = 0
        """Ids in the conditional sequence before this section's prompt."""
        self.first = 0
        """Oldest section in the context."""
        self.sections: list[SectionCodes] = []
        """Codes of the finished sections."""
        self.frames_done = 0
        self.drafter = NgramDrafter(self.task.confidence)
        self.spare_logits: Logits | None = None
        """Logits after an accepted draft: the next code needs no step."""

    def generate(self) -> Steps:
        """Generate all sections from the newest snapshot on, or from the beginning."""
        checkpoint = self._restored()
        done = checkpoint.section if checkpoint else self.task.kept_prefix.sections
        self.sections = [self._journal_codes(i) for i in range(done)]
        self._reset_counts()
        while len(self.sections) < len(self.task.caps):
            codes = yield from self._generate_section(len(self.sections), checkpoint)
            checkpoint = None
            if codes is not None:
                self.sections.append(np.array(codes, np.int16))
                self.frames_done += len(codes) // 2
        return self.sections

    def _restored(self) -> Checkpoint | None:
        """Load the latest snapshot; without a usable one everything is replayed, to the same bits."""
        checkpoint = self.snapshots.latest() if self.snapshots else None
        if self.snapshots and checkpoint and checkpoint.section < len(self.task.caps):
            self.sections = [self._journal_codes(i) for i in range(checkpoint.section)]
            self.first = checkpoint.first
            self.place.reserve(self._section_ids(checkpoint.section))
            try:
                self.snapshots.restore(self.engine, self.place.seqs)
                return checkpoint
            except (DamagedFile, StorageError):
                self.first = 0
                for seq in self.place.seqs:
                    self.engine.forget(seq, 0)
        return None

    def _section_ids(self, section: int) -> int:
        """Maximum ids of context that a section takes, from the oldest section that is still in it."""
        return len(self._context(section)) + 2 * self.task.caps[section] + 1

    def _forget(self, which: int, keep: int) -> None:
        self.engine.forget(self.place.seqs[which], keep)

    def _reset_counts(self) -> None:
        """Set the frame count and the n-gram statistics to those of the finished sections."""
        self.frames_done = sum(len(codes) // 2 for codes in self.sections)
        self.drafter = NgramDrafter(self.task.confidence)
        for code in (int(code) for codes in self.sections for code in codes):
            self.drafter.update(code)

    def _journal_codes(self, section: int) -> SectionCodes:
        return np.array([c for c in self.journal.codes(section) if c != END_OF_AUDIO], np.int16)

    def _generate_section(
        self, section: int, checkpoint: Checkpoint | None
    ) -> Generator[list[SequenceInput], Logits, list[int] | None]:
        """Codes of a section, or None where a fault restarts it."""
        replay = list(self.journal.codes(section))
        codes, pending = self._begin_section(section, replay, checkpoint)
        in_context = choices_in_context([*self._context(section), *self._ids(codes)], self.vocab)
        ended = False
        while len(codes) < 2 * self.task.caps[section] and not ended:
            draft, logits = yield from self._next_logits(section, codes, pending, len(replay) - len(codes))
            if len(codes) < len(replay):
                code = replay[len(codes)]
            else:
                forced = self._forced_code(len(codes))
                code = self.sampler.next_code(section, len(codes), logits, in_context, forced)
                self.journal.append(section, code)
            if draft not in (None, code):
                self._reject_draft()
            ended = code == END_OF_AUDIO
            if not ended:
                codes.append(code)
                self.drafter.update(code)
                in_context[1 + code] = True
                ids = self._ids([code])
                pending = PendingIds(ids, ids)
                if len(codes) % N_TRACKS == 0:
                    self._report(section, len(codes))
            if self._has_fault(section, codes, ended, len(replay)):
                self._restart_section(section)
                return None
        return codes

    def _begin_section(
        self, section: int, replay: Sequence[int], checkpoint: Checkpoint | None
    ) -> tuple[list[int], PendingIds]:
        """Codes of a section that need no step any more, and the ids to feed next."""
        n_kept = self.task.kept_codes(section)
        codes = list(replay[: checkpoint.codes if checkpoint else n_kept])
        for code in codes:
            self.drafter.update(code)
        last = self._ids(codes[-1:])
        if not checkpoint:
            prompt = self._make_room(section)
            # the unconditional sequence starts at the last id not sampled (`generate` of transformers)
            return codes, PendingIds(prompt.cond + self._ids(codes), last or prompt.uncond)
        self.first = checkpoint.first
        self.section_start = min(checkpoint.start, len(self._context(section)))
        self.n_fed = len(self._context(section)) + checkpoint.codes - 1
        # the separator and all codes but the last; or from the last kept one on
        self.n_fed_uncond = checkpoint.codes - n_kept
        return codes, PendingIds(last, last)

    def _ids(self, codes: Sequence[int]) -> list[int]:
        return [self.vocab.codebook0 + code for code in codes]

    def _next_logits(
        self, section: int, codes: Sequence[int], pending: PendingIds, n_replay: int
    ) -> Generator[list[SequenceInput], Logits, tuple[int | None, Logits]]:
        """The drafted code fed in this step, if any, and the logits of the next code.

        `n_replay` is the number of codes that are still replayed.
        """
        if self.spare_logits is not None:  # the last draft was accepted
            logits, self.spare_logits = self.spare_logits, None
            return None, logits
        sampled = len(codes) > self.task.kept_codes(section)
        if sampled and self.snapshots and n_replay <= 0:
            checkpoint = Checkpoint(section, len(codes), self.first, self.section_start)
            self.snapshots.offer(self.engine, self.place.seqs, checkpoint)
        draft = self._draft(section, codes) if sampled else None
        unknown = n_replay <= (0 if draft is None else 1)
        logits, self.spare_logits = yield from self._step(section, pending, draft, unknown)
        return draft, logits

    def _draft(self, section: int, codes: Sequence[int]) -> int | None:
        """A code to feed beside both sequences' own ids; None where it would cost more than it may save."""
        if len(codes) + 1 >= 2 * self.task.caps[section]:
            return None
        guided = self.task.sampling.guidance(section) != 1.0
        forced = self._forced_code(len(codes))
        if forced is not None:
            return forced if self.place.in_pairs else None
        return self.drafter.predict() if guided and self.task.speculative and self.place.alone else None

    def _forced_code(self, position: int) -> int | None:
        """The forced track's code at this position of a section; None where the other track is next."""
        forced = self.task.forced
        if forced is None or position % 2 != forced.track:
            return None
        return int(forced.codes[self.frames_done + position // 2])

    def _reject_draft(self) -> None:
        """Drop a fed code that was not sampled from the caches."""
        self.spare_logits = None
        self.n_fed -= 1
        self._forget(COND, self.n_fed)
        if self.n_fed_uncond:
            self.n_fed_uncond -= 1
            self._forget(UNCOND, self.n_fed_uncond)

    def _make_room(self, section: int) -> PendingIds:
        """Drop the oldest sections until a section fits; returns the ids before its first code."""
        first = self.first
        while self.first < section and self._section_ids(section) > self.n_ctx:
            self.first += 1
        if self.first != first:  # all later positions move, so they are computed again
            self._forget(COND, 0)
            self.n_fed = 0
        self.section_start = self.n_fed
        if self.place.count > 1:
            self._forget(UNCOND, 0)
            self.n_fed_uncond = 0
        self.place.reserve(self._section_ids(section))
        ids = self._context(section)
        return PendingIds(ids[self.n_fed :], ids[-1:])

    def _context(self, section: int) -> list[int]:
        return section_context(self.task, self.vocab, self.sections, self.first, section)

    def _has_fault(self, section: int, codes: Sequence[int], ended: bool, n_replayed: int) -> bool:
        """Whether the section has to be restarted.

        Replayed codes passed when they were sampled, but for the last ones, behind which work was stopped.
        """
        task, count = self.task, len(codes)
        last = ended or count == 2 * task.caps[section]
        if count % CHECK_EVERY and not last:
            return False
        again = self.journal.attempt(section) < task.retries
        due = last or again
        newest = count + ended >= n_replayed and not self.journal.codes(section + 1)
        fault = task.fault_check(section, codes, last) if task.fault_check and due and newest else None
        if fault is None:
            return False
        outcome = "generated again" if again else "kept, since it has no retries left"
        if not fault.certain:
            outcome = "kept, but listen to it"
        warning = f"section {section + 1} is {outcome}: {fault.sentence}"
        self.progress(Event("draft", self.event.done, self.event.total, warning=warning))
        return fault.certain and again

    def _restart_section(self, section: int) -> None:
        """Drop a section's codes; the conditional sequence returns to what it held before its prompt.

        The prompt is decoded again, so that a resume, which never sees the dropped codes, has the same bits.
        """
        self.journal.restart(section, self.task.kept_codes(section))
        self.spare_logits, self.n_fed = None, self.section_start
        self._forget(COND, self.n_fed)
        self._reset_counts()

    def _step(
        self, section: int, pending: PendingIds, draft: int | None, unknown: bool
    ) -> Generator[list[SequenceInput], Logits, tuple[Logits, Logits | None]]:
        """Feed both sequences; returns their logits, and those after the draft if there is one.

        If a code that needs logits is `unknown`, they are computed for all of these ids, so that a replay
        has the batch shapes of the first time.
        """
        both = self.task.sampling.guidance(section) != 1.0
        extra = [] if draft is None else self._ids([draft])
        n_logits = 1 + len(extra) if unknown else 0
        inputs = [SequenceInput(COND, [*pending.cond, *extra], n_logits)]
        if both:
            inputs.append(SequenceInput(UNCOND, [*pending.uncond, *extra], n_logits))
        logits = yield inputs
        self.n_fed += len(inputs[0].ids)
        self.n_fed_uncond += len(inputs[-1].ids) if both else 0
        return (logits[::2], logits[1::2]) if extra else (logits, None)

    def _report(self, section: int, count: int) -> None:
        done, total = self.frames_done + count // 2, self.frames_done + sum(self.task.caps[section:])
        self.event = Event("draft", done, total, self.notes[section], section=section + 1)
        self.progress(self.event)
