"""Stage 1: lyrics prompt → codebook-0 codes of both tracks, V0 I0 V1 I1 …, section by section.

The conditional row keeps its cache from section to section; the unconditional row starts anew at
each section's last prompt id and gets the same new ids, so both are one batch per step. What was
already drawn is replayed through the very same steps, so a resumed song goes on bit for bit.

Several candidates of a song share the prompt's computation and then their steps.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, EngineError
from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.lm.vocab import Stage1Vocab
from yuegguf.progress import Event, Progress, silent
from yuegguf.stages.batching import LockstepBatch, ProgressMux
from yuegguf.stages.lookahead import NgramDrafter
from yuegguf.stages.sampler import END, choice_logits, guided_scores, penalise, sample_choice, uniform
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

COND, UNCOND = 0, 1
CHECK_EVERY = 100
"""Codes between two looks of the judge, a second of music: a look at every draw would be dear."""

Logits = NDArray[np.float32]
Codes = NDArray[np.int16]


def generate_codes(
    draft: Stage1Task,
    engine: TokenEngine,
    vocab: Stage1Vocab,
    journal: Journal,
    snapshots: Snapshots | None = None,
    progress: Progress = silent,
) -> list[Codes]:
    """Sing every section.

    Returns per section its codes [2·frames] (vocal first), without the end mark. Raises RequestError
    when one section does not fit into the context, EngineError, Interrupted.
    """
    return generate_candidates([CandidateTask(draft, journal, snapshots)], engine, vocab, progress)[0]


def generate_candidates(
    parts: Sequence[CandidateTask], engine: TokenEngine, vocab: Stage1Vocab, progress: Progress = silent
) -> list[list[Codes]]:
    """Sing candidates of one song, in batches of all that are still singing; see `run`.

    The engine needs `rows` (two with guidance, else one) for each. Draws of a candidate are its own: beside
    others only the last bits of its logits are those of a larger batch.
    """
    for part in parts:
        check_context(part.draft, engine.n_ctx)
    singers = [_Candidate(part, engine, vocab, number) for number, part in enumerate(parts)]
    marks = [singer.restored() for singer in singers]
    songs = [singer.sing_all(mark) for singer, mark in zip(singers, marks, strict=True)]
    report = ProgressMux(singers, progress)
    return LockstepBatch(songs, engine, report).sing(alike=len(parts) > 1 and not any(marks))


class _Candidate:
    """The state of one candidate: which ids each of its rows has been fed.

    Its methods that sing are generators: they yield the rows of a step and are sent its logits.
    """

    def __init__(self, part: CandidateTask, engine: TokenEngine, vocab: Stage1Vocab, number: int) -> None:
        """The `number` of several says which rows are its own."""
        self.draft, self.journal, self.snapshots = part.draft, part.journal, part.snapshots
        self.engine, self.vocab = engine, vocab
        count = 2 if part.draft.sampling.guided else 1
        self.rows = range(number * count, (number + 1) * count)
        self.event = Event("draft", 0, sum(part.draft.caps))
        self.warnings: list[str] = []
        """Not told yet."""
        self.fed = 0
        """Ids of the current context that the conditional row holds."""
        self.fed_uncond = 0
        """Ids that the unconditional row holds."""
        self.opened = 0
        """Ids that the conditional row held before the prompt of this section."""
        self.first = 0
        """Oldest section in the context."""
        self.sung: list[Codes] = []
        self.frames_done = 0
        self.guesser = NgramDrafter()
        self.ahead: Logits | None = None
        """Logits after a guess that was drawn: the next draw needs no step."""

    def sing_all(self, mark: Checkpoint | None) -> Generator[list[SequenceInput], Logits, list[Codes]]:
        """From a restored mark on, or from the beginning."""
        self.sung = [self._codes(i) for i in range(mark.section if mark else self.draft.given.sections)]
        self._settle()
        while len(self.sung) < len(self.draft.caps):
            section = len(self.sung)
            codes = yield from self._sing(section, mark)
            mark = None
            if codes is not None:
                self.sung.append(np.array(codes, np.int16))
                self.frames_done += len(codes) // 2
        return self.sung

    def restored(self) -> Checkpoint | None:
        """Load the latest snapshot; without a usable one everything is replayed, to the same bits."""
        mark = self.snapshots.latest() if self.snapshots else None
        if self.snapshots and mark and mark.section < len(self.draft.caps):
            try:
                self.snapshots.restore(self.engine, self.rows)
                return mark
            except DamagedFile:
                for row in self.rows:
                    self.engine.forget(row, 0)
        return None

    def _settle(self) -> None:
        """Count and learn the sections that are sung."""
        self.frames_done = sum(len(codes) // 2 for codes in self.sung)
        self.guesser = NgramDrafter()
        for code in (int(code) for codes in self.sung for code in codes):
            self.guesser.learn(code)

    def _codes(self, section: int) -> Codes:
        return np.array([c for c in self.journal.codes(section) if c != END_OF_AUDIO], np.int16)

    def _sing(
        self, section: int, mark: Checkpoint | None
    ) -> Generator[list[SequenceInput], Logits, list[int] | None]:
        """The codes of a section, or None where they are so bad that it has to be sung anew."""
        replay = list(self.journal.codes(section))
        codes, pending = self._begin(section, replay, mark)
        seen = self._seen(section, codes)
        ended = False
        while len(codes) < 2 * self.draft.caps[section] and not ended:
            guess, logits = yield from self._look(section, codes, pending, len(replay) - len(codes))
            if len(codes) < len(replay):
                code = replay[len(codes)]
            else:
                code = self._next(section, len(codes), logits, seen)
                self.journal.append(section, code)
            if guess not in (None, code):
                self._take_back()
            ended = code == END_OF_AUDIO
            if not ended:
                codes.append(code)
                self.guesser.learn(code)
                seen[1 + code] = True
                pending = PendingIds([self.vocab.codebook0 + code], [self.vocab.codebook0 + code])
                self._report(section, len(codes))
            if self._is_bad(section, codes, ended, len(replay)):
                self._begin_anew(section)
                return None
        return codes

    def _begin(
        self, section: int, replay: Sequence[int], mark: Checkpoint | None
    ) -> tuple[list[int], PendingIds]:
        """Codes of a section that need no step any more, and what is to be fed next."""
        given = self.draft.begun(section)
        codes = list(replay[: mark.codes if mark else given])
        for code in codes:
            self.guesser.learn(code)
        last = [self.vocab.codebook0 + code for code in codes[-1:]]
        if not mark:
            opened = self._open_section(section)
            # the unconditional row starts at the last id that is not drawn (`generate` of transformers)
            return codes, PendingIds(opened.cond + self._ids(codes), last or opened.uncond)
        self.first, self.opened = mark.first, 0
        self.fed = len(self._context(section)) + mark.codes - 1
        # the separator and all codes but the last; or from the last given one on
        self.fed_uncond = mark.codes - given
        return codes, PendingIds(last, last)

    def _ids(self, codes: Sequence[int]) -> list[int]:
        return [self.vocab.codebook0 + code for code in codes]

    def _look(
        self, section: int, codes: Sequence[int], pending: PendingIds, known: int
    ) -> Generator[list[SequenceInput], Logits, tuple[int | None, Logits]]:
        """A guess that is fed now, if any, and the logits for the next draw; `known` draws are to come."""
        if self.ahead is not None:  # the last guess was drawn
            logits, self.ahead = self.ahead, None
            return None, logits
        drawn = len(codes) > self.draft.begun(section)
        if drawn and self.snapshots and known <= 0:
            self.snapshots.offer(self.engine, self.rows, Checkpoint(section, len(codes), self.first))
        guess = self._guess(section, codes) if drawn else None
        unknown = known <= (0 if guess is None else 1)
        logits, self.ahead = yield from self._step(section, pending, guess, unknown)
        return guess, logits

    def _guess(self, section: int, codes: Sequence[int]) -> int | None:
        """A code to feed beside both rows' own ids; None where it would cost more than it may save."""
        if len(codes) + 1 >= 2 * self.draft.caps[section]:
            return None
        guided = self.draft.sampling.guidance(section) != 1.0
        forced = self._forced(len(codes))
        if forced is not None:
            return forced
        return self.guesser.guess() if guided and self.draft.guesses else None

    def _forced(self, position: int) -> int | None:
        """The code that a given track has at this draw of a section."""
        forced = self.draft.forced
        if forced is None or position % 2 != forced.track:
            return None
        return int(forced.codes[self.frames_done + position // 2])

    def _take_back(self) -> None:
        """Forget a guess that was not drawn."""
        self.ahead = None
        self.fed -= 1
        self.engine.forget(self.rows[COND], self.fed)
        if self.fed_uncond:
            self.fed_uncond -= 1
            self.engine.forget(self.rows[UNCOND], self.fed_uncond)

    def _open_section(self, section: int) -> PendingIds:
        """Make room for a section; returns what is to be fed before its first draw."""
        need = 2 * self.draft.caps[section] + 1
        first = self.first
        while self.first < section and len(self._context(section)) + need > self.engine.n_ctx:
            self.first += 1
        if self.first != first:  # the oldest sections go, so the rest moves: compute it anew
            self.engine.forget(self.rows[COND], 0)
            self.fed = 0
        self.opened = self.fed
        if len(self.rows) > 1:
            self.engine.forget(self.rows[UNCOND], 0)
            self.fed_uncond = 0
        ids = self._context(section)
        return PendingIds(ids[self.fed :], ids[-1:])

    def _context(self, section: int) -> list[int]:
        return section_context(self.draft, self.vocab, self.sung, self.first, section)

    def _is_bad(self, section: int, codes: Sequence[int], ended: bool, known: int) -> bool:
        """Whether the judge wants these codes drawn anew; they were good when they were replayed."""
        draft, count = self.draft, len(codes)
        last = ended or count == 2 * draft.caps[section]
        again = self.journal.attempt(section) < draft.retries
        due = last or (again and count % CHECK_EVERY == 0)
        verdict = draft.judge(section, codes, last) if draft.judge and due and count >= known else None
        if verdict is None:
            return False
        fate = "drawn anew" if again else "kept, since it was drawn anew often enough"
        self.warnings.append(f"section {section + 1} is {fate}: {verdict}")
        return again

    def _begin_anew(self, section: int) -> None:
        """Forget a section's draws; the conditional row goes back to what it held before its prompt.

        Its prompt is read again, so that a resume, which never saw the bad draws, has the same bits.
        """
        self.journal.restart(section, self.draft.begun(section))
        self.ahead, self.fed = None, self.opened
        self.engine.forget(self.rows[COND], self.fed)
        self._settle()

    def _seen(self, section: int, codes: Sequence[int]) -> NDArray[np.bool_]:
        """Which choices the context holds [1025]; upstream penalises all of them."""
        seen = np.zeros(1025, bool)
        ids = np.array(self._context(section), np.int64)
        seen[END] = bool((ids == self.vocab.eoa).any())
        offsets = ids - self.vocab.codebook0
        seen[1 + offsets[(offsets >= 0) & (offsets < 1024)]] = True
        seen[1 + np.array(codes, np.int64)] = True
        return seen

    def _step(
        self, section: int, pending: PendingIds, guess: int | None, unknown: bool
    ) -> Generator[list[SequenceInput], Logits, tuple[Logits, Logits | None]]:
        """Feed both rows; returns their logits, and those after the guess if there is one.

        Logits come, if a draw that needs them is `unknown`, for all of these ids, so that a replay has the
        shapes of the first time.
        """
        both = self.draft.sampling.guidance(section) != 1.0
        extra = [] if guess is None else [self.vocab.codebook0 + guess]
        wanted = 1 + len(extra) if unknown else 0
        rows = [SequenceInput(self.rows[COND], [*pending.cond, *extra], wanted)]
        if both:
            rows.append(SequenceInput(self.rows[UNCOND], [*pending.uncond, *extra], wanted))
        logits = yield rows
        self.fed += len(rows[0].ids)
        self.fed_uncond += len(rows[-1].ids) if both else 0
        return (logits[::2], logits[1::2]) if extra else (logits, None)

    def _next(self, section: int, position: int, logits: Logits, seen: NDArray[np.bool_]) -> int:
        """A code or END_OF_AUDIO."""
        new, forced = position - self.draft.begun(section), self._forced(position)
        # a section ends on a whole frame
        may_end = new >= self.draft.sampling.min_new_tokens and position % 2 == 0
        if self.draft.forced and self.draft.forced.whole:
            may_end = False
        if forced is not None and not may_end:
            return forced
        code = self._draw(section, position, logits, seen, may_end)
        return code if forced is None or code == END_OF_AUDIO else forced

    def _draw(
        self, section: int, position: int, logits: Logits, seen: NDArray[np.bool_], may_end: bool
    ) -> int:
        draft, options = self.draft, self.draft.sampling
        scores = step_scores(logits, options.guidance(section), self.vocab)
        if not np.isfinite(scores).all():
            raise EngineError(
                "the model's output is not a number", "its file may be damaged: convert it again"
            )
        scores = penalise(scores, seen, options.repetition_penalty)
        if not may_end:
            scores[END] = -np.inf
        attempt = self.journal.attempt(section)
        choice = sample_choice(
            scores, options, uniform(draft.seed, draft.candidate, section, position, attempt)
        )
        return END_OF_AUDIO if choice == END else choice - 1

    def _report(self, section: int, count: int) -> None:
        caps, labels = self.draft.caps, self.draft.labels
        done = self.frames_done + count // 2
        name = f", {labels[section]}" if labels else ""
        note = f"section {section + 1} of {len(caps)}{name}"
        self.event = Event("draft", done, self.frames_done + sum(caps[section:]), note)


def step_scores(logits: Logits, scale: float, vocab: Stage1Vocab) -> NDArray[np.float64]:
    """Logits [1 or 2, n_vocab] of one step → scores of the choices [1025], before the penalty.

    With guidance off upstream adds no processor, so the raw logits stay as they are.
    """
    if scale == 1.0:
        return choice_logits(logits[COND], vocab.eoa, vocab.codebook0)
    return guided_scores(logits[COND], logits[UNCOND], scale, vocab.eoa, vocab.codebook0)
