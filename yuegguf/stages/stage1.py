"""Stage 1: lyrics prompt → codebook-0 codes of both tracks, V0 I0 V1 I1 …, section by section.

The conditional row keeps its cache from section to section; the unconditional row starts anew at
each section's last prompt id and gets the same new ids, so both are one batch per step. What was
already drawn is replayed through the very same steps, so a resumed song goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.engine.base import Row, TokenEngine
from yuegguf.errors import DamagedFile, EngineError, RequestError
from yuegguf.progress import Event, Progress, silent
from yuegguf.sampling import END, Sampling, choice_logits, draw, guided_scores, penalise, uniform
from yuegguf.stages.guess import Guesser
from yuegguf.stages.prompt import Prompt
from yuegguf.vocab import Stage1Vocab

END_OF_AUDIO = -1
"""The model's own end of a section, in a journal."""
COND, UNCOND = 0, 1


class Journal(Protocol):
    """Remembers every draw; a section's list may end with END_OF_AUDIO."""

    def drawn(self, section: int) -> Sequence[int]:
        """The codes of a section that are already drawn."""
        ...

    def draw(self, section: int, code: int) -> None:
        """Keep one more draw before anything is made of it."""
        ...


@dataclass(frozen=True)
class Mark:
    """A point of the song whose caches can be saved: before the last drawn id is fed."""

    section: int
    codes: int
    """Codes of this section drawn so far, at least one."""
    first: int
    """Oldest section that is still in the context."""


class Snapshots(Protocol):
    """Keeps the engine's caches from time to time, so that a resume need not replay much."""

    def latest(self) -> Mark | None:
        """The newest usable mark."""
        ...

    def offer(self, engine: TokenEngine, rows: int, mark: Mark) -> None:
        """A chance to save now; may decline."""
        ...

    def restore(self, engine: TokenEngine, rows: int) -> None:
        """Load the caches of the latest mark into the engine."""
        ...


@dataclass(frozen=True)
class Draft:
    """What stage 1 is asked to do."""

    prompt: Prompt
    caps: Sequence[int]
    """Most frames of each section."""
    sampling: Sampling
    seed: int
    labels: Sequence[str] = ()
    """Section names for the progress notes."""
    candidate: int = 0


def check_context(draft: Draft, n_ctx: int) -> None:
    """Refuse a section that could not be sung even alone, before hours are spent. Raises RequestError."""
    for number, (ids, cap) in enumerate(zip(draft.prompt.sections, draft.caps, strict=True), 1):
        need = len(draft.prompt.header) + len(ids) + 2 * cap + 1
        if need > n_ctx:
            raise RequestError(
                f"section {number} needs {need} ids of context, of {n_ctx}",
                "use a larger --ctx, a shorter --segment-seconds or fewer lyrics",
            )


def run(
    draft: Draft,
    engine: TokenEngine,
    vocab: Stage1Vocab,
    journal: Journal,
    snapshots: Snapshots | None = None,
    progress: Progress = silent,
) -> list[NDArray[np.int16]]:
    """Sing every section.

    Returns per section its codes [2·frames] (vocal first), without the end mark. Raises RequestError
    when one section does not fit into the context, EngineError, Interrupted.
    """
    return _Singer(draft, engine, vocab, journal, snapshots, progress).sing_all()


@dataclass(frozen=True)
class Pending:
    """Ids that both rows are to be fed next."""

    cond: list[int]
    uncond: list[int]


class _Singer:
    """The state of one draft: which ids each row has been fed."""

    def __init__(
        self,
        draft: Draft,
        engine: TokenEngine,
        vocab: Stage1Vocab,
        journal: Journal,
        snapshots: Snapshots | None,
        progress: Progress,
    ) -> None:
        self.draft, self.engine, self.vocab = draft, engine, vocab
        self.journal, self.snapshots, self.progress = journal, snapshots, progress
        self.rows = 2 if draft.sampling.guided else 1
        self.fed = 0
        """Ids of the current context that the conditional row holds."""
        self.fed_uncond = 0
        """Ids that the unconditional row holds."""
        self.first = 0
        """Oldest section in the context."""
        self.frames_done = 0
        self.guesser = Guesser()
        self.ahead: NDArray[np.float32] | None = None
        """Logits after a guess that was drawn: the next draw needs no step."""

    def sing_all(self) -> list[NDArray[np.int16]]:
        check_context(self.draft, self.engine.n_ctx)
        mark = self._restored()
        start = mark.section if mark else 0
        sung = [self._codes(i) for i in range(start)]
        self.frames_done = sum(len(codes) // 2 for codes in sung)
        for code in (int(code) for codes in sung for code in codes):
            self.guesser.learn(code)
        for section in range(start, len(self.draft.caps)):
            sung.append(self._sing(section, mark if section == start else None))
            self.frames_done += len(sung[-1]) // 2
        return sung

    def _restored(self) -> Mark | None:
        """Load the latest snapshot; without a usable one everything is replayed, to the same bits."""
        mark = self.snapshots.latest() if self.snapshots else None
        if self.snapshots and mark and mark.section < len(self.draft.caps):
            try:
                self.snapshots.restore(self.engine, self.rows)
                return mark
            except DamagedFile:
                for row in range(self.rows):
                    self.engine.forget(row, 0)
        return None

    def _codes(self, section: int) -> NDArray[np.int16]:
        return np.array([c for c in self.journal.drawn(section) if c != END_OF_AUDIO], np.int16)

    def _sing(self, section: int, mark: Mark | None) -> NDArray[np.int16]:
        replay = list(self.journal.drawn(section))
        codes, pending = self._begin(section, replay, mark)
        seen = self._seen(section, codes)
        while len(codes) < 2 * self.draft.caps[section]:
            guess, logits = self._look(section, codes, pending, len(replay) - len(codes))
            if len(codes) < len(replay):
                code = replay[len(codes)]
            else:
                code = self._draw(section, len(codes), logits, seen)
                self.journal.draw(section, code)
            if guess not in (None, code):
                self._take_back()
            if code == END_OF_AUDIO:
                break
            codes.append(code)
            self.guesser.learn(code)
            seen[1 + code] = True
            pending = Pending([self.vocab.codebook0 + code], [self.vocab.codebook0 + code])
            self._report(section, len(codes))
        return np.array(codes, np.int16)

    def _begin(self, section: int, replay: Sequence[int], mark: Mark | None) -> tuple[list[int], Pending]:
        """Codes of a section that both rows hold, and what is to be fed next."""
        if not mark:
            return [], self._open_section(section)
        codes = list(replay[: mark.codes])
        for code in codes:
            self.guesser.learn(code)
        self.first = mark.first
        self.fed = len(self._context(section)) + mark.codes - 1
        self.fed_uncond = mark.codes  # the separator, and all codes but the last
        last = [self.vocab.codebook0 + codes[-1]]
        return codes, Pending(last, last)

    def _look(
        self, section: int, codes: Sequence[int], pending: Pending, known: int
    ) -> tuple[int | None, NDArray[np.float32]]:
        """A guess that is fed now, if any, and the logits for the next draw; `known` draws are to come."""
        if self.ahead is not None:  # the last guess was drawn
            logits, self.ahead = self.ahead, None
            return None, logits
        if codes and self.snapshots and known <= 0:
            self.snapshots.offer(self.engine, self.rows, Mark(section, len(codes), self.first))
        guess = self._guess(section, codes)
        unknown = known <= (0 if guess is None else 1)
        logits, self.ahead = self._step(section, pending, guess, unknown)
        return guess, logits

    def _guess(self, section: int, codes: Sequence[int]) -> int | None:
        """A code to feed beside both rows' own ids; None where it would cost more than it may save."""
        guided = self.draft.sampling.guidance(section) != 1.0
        more = len(codes) + 1 < 2 * self.draft.caps[section]
        return self.guesser.guess() if codes and guided and more else None

    def _take_back(self) -> None:
        """Forget a guess that was not drawn."""
        self.ahead = None
        self.fed -= 1
        self.engine.forget(COND, self.fed)
        self.fed_uncond -= 1
        self.engine.forget(UNCOND, self.fed_uncond)

    def _open_section(self, section: int) -> Pending:
        """Make room for a section; returns what is to be fed before its first draw."""
        need = 2 * self.draft.caps[section] + 1
        first = self.first
        while self.first < section and len(self._context(section)) + need > self.engine.n_ctx:
            self.first += 1
        if self.first != first:  # the oldest sections go, so the rest moves: compute it anew
            self.engine.forget(COND, 0)
            self.fed = 0
        if self.rows == 2:
            self.engine.forget(UNCOND, 0)
            self.fed_uncond = 0
        context = self._context(section)
        return Pending(context[self.fed :], context[-1:])

    def _context(self, section: int) -> list[int]:
        """All ids before the first code of a section, oldest kept section first."""
        prompt, ids = self.draft.prompt, list(self.draft.prompt.header)
        for i in range(self.first, section + 1):
            if i > self.first:
                ids += prompt.end_of_segment
            ids += prompt.sections[i]
            if i < section:
                ids += [*self.vocab.ids(self._codes(i)), self.vocab.eoa]
        return ids

    def _seen(self, section: int, codes: Sequence[int]) -> NDArray[np.bool_]:
        """Which choices the context holds [1025]; upstream penalises all of them."""
        seen = np.zeros(1025, bool)
        context = np.array(self._context(section), np.int64)
        seen[END] = bool((context == self.vocab.eoa).any())
        offsets = context - self.vocab.codebook0
        seen[1 + offsets[(offsets >= 0) & (offsets < 1024)]] = True
        seen[1 + np.array(codes, np.int64)] = True
        return seen

    def _step(
        self, section: int, pending: Pending, guess: int | None, unknown: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Feed both rows; returns their logits, and those after the guess if there is one.

        Logits come, if a draw that needs them is `unknown`, for all of these ids, so that a replay has the
        shapes of the first time.
        """
        both = self.draft.sampling.guidance(section) != 1.0
        extra = [] if guess is None else [self.vocab.codebook0 + guess]
        wanted = 1 + len(extra) if unknown else 0
        rows = [Row(COND, [*pending.cond, *extra], wanted)]
        if both:
            rows.append(Row(UNCOND, [*pending.uncond, *extra], wanted))
        logits = self.engine.decode(rows)
        self.fed += len(rows[0].ids)
        self.fed_uncond += len(rows[-1].ids) if both else 0
        return (logits[::2], logits[1::2]) if extra else (logits, None)

    def _draw(self, section: int, position: int, logits: NDArray[np.float32], seen: NDArray[np.bool_]) -> int:
        options, vocab = self.draft.sampling, self.vocab
        scores = step_scores(logits, options.guidance(section), vocab)
        if not np.isfinite(scores).all():
            raise EngineError(
                "the model's output is not a number", "its file may be damaged: convert it again"
            )
        scores = penalise(scores, seen, options.repetition_penalty)
        if position < options.min_new_tokens or position % 2:  # a section ends on a whole frame
            scores[END] = -np.inf
        chance = uniform(self.draft.seed, self.draft.candidate, section, position)
        choice = draw(scores, options, chance)
        return END_OF_AUDIO if choice == END else choice - 1

    def _report(self, section: int, count: int) -> None:
        caps, labels = self.draft.caps, self.draft.labels
        done = self.frames_done + count // 2
        name = f", {labels[section]}" if labels else ""
        note = f"section {section + 1} of {len(caps)}{name}"
        self.progress(Event("draft", done, self.frames_done + sum(caps[section:]), note))


def step_scores(logits: NDArray[np.float32], scale: float, vocab: Stage1Vocab) -> NDArray[np.float64]:
    """Logits [1 or 2, n_vocab] of one step → scores of the choices [1025], before the penalty.

    With guidance off upstream adds no processor, so the raw logits stay as they are.
    """
    if scale == 1.0:
        return choice_logits(logits[COND], vocab.eoa, vocab.codebook0)
    return guided_scores(logits[COND], logits[UNCOND], scale, vocab.eoa, vocab.codebook0)
