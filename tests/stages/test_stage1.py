"""Stage 1 on a fake engine: the ids that are fed, the journal, resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes import STAGE1, MemoryJournal, Stage1Engine
from helpers import context_ids
from tasks import PROMPT, TASK, VOCAB, OneSnapshot

from yuegguf.errors import DamagedFile, EngineError, Interrupted, RequestError, StorageError, YueError
from yuegguf.progress import Event
from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage1
from yuegguf.stages.sampler import COND, UNCOND, penalise, step_scores
from yuegguf.stages.stage1_task import END_OF_AUDIO, Checkpoint, Stage1Task


def generate(
    task: Stage1Task = TASK, engine: Stage1Engine | None = None, journal: MemoryJournal | None = None
) -> list[list[int]]:
    engine = engine or Stage1Engine()
    journal = journal or MemoryJournal()
    return [codes.tolist() for codes in stage1.generate_codes(task, engine, VOCAB, journal)]


def test_every_section_is_generated_within_its_cap() -> None:
    sections = generate()
    assert len(sections) == 3
    assert all(len(codes) % 2 == 0 and 0 < len(codes) <= 24 for codes in sections)
    assert all(0 <= code < 1024 for codes in sections for code in codes)


def test_conditional_sequence_holds_the_official_context() -> None:
    engine, journal = Stage1Engine(), MemoryJournal()
    first, second, third = stage1.generate_codes(TASK, engine, VOCAB, journal)
    expected = [*PROMPT.header, *PROMPT.sections[0], *VOCAB.ids(first), VOCAB.eoa]
    expected += [*PROMPT.end_of_segment, *PROMPT.sections[1], *VOCAB.ids(second), VOCAB.eoa]
    expected += [*PROMPT.end_of_segment, *PROMPT.sections[2]]
    assert engine.fed[COND][: len(expected)] == expected
    last = VOCAB.ids(third)
    assert engine.fed[COND][len(expected) :] == (last if journal.codes(2)[-1] == END_OF_AUDIO else last[:-1])


def test_unconditional_sequence_starts_at_the_separator_each_section() -> None:
    engine = Stage1Engine()
    sections = stage1.generate_codes(TASK, engine, VOCAB, MemoryJournal())
    starts = [
        row.ids for call in engine.calls for row in call if row.seq == UNCOND and row.ids == [VOCAB.xcodec]
    ]
    assert len(starts) == 3
    assert engine.fed[UNCOND][0] == VOCAB.xcodec
    assert engine.fed[UNCOND][1:] == VOCAB.ids(sections[-1])[: len(engine.fed[UNCOND]) - 1]


def test_without_guidance_one_sequence_is_enough() -> None:
    task = replace(TASK, sampling=replace(TASK.sampling, guidance_first=1.0, guidance_rest=1.0))
    engine = Stage1Engine(n_rows=1)
    assert len(generate(task, engine)) == 3
    assert {row.seq for call in engine.calls for row in call} == {COND}


def test_guidance_off_scores_are_the_raw_logits() -> None:
    """As in transformers, which adds no processor then; the penalty divides positive ones."""
    logits = np.linspace(5, 1, len(STAGE1), dtype=np.float32)[None]
    scores = step_scores(logits, 1.0, VOCAB)
    assert scores[0] == logits[0, VOCAB.eoa]
    assert (scores[1:] == logits[0, VOCAB.codebook0 : VOCAB.codebook0 + 1024]).all()
    assert penalise(scores, np.ones(1025, bool), 1.1)[-1] == scores[-1] / 1.1


def test_a_broken_model_is_an_error_before_anything_is_logged() -> None:
    class Broken(Stage1Engine):
        def _logits(self, ids: object) -> np.ndarray:
            return np.full(len(STAGE1), np.nan, np.float32)

    journal = MemoryJournal()
    with pytest.raises(EngineError, match="not a number"):
        generate(engine=Broken(), journal=journal)
    assert not journal.codes(0)


@pytest.mark.parametrize("error", [DamagedFile, StorageError])
def test_an_unusable_snapshot_is_replayed_from_the_log(error: type[YueError]) -> None:
    class Unusable(OneSnapshot):
        def restore(self, engine: Stage1Engine, seqs: Sequence[int]) -> None:
            engine.fed[0] = [1, 2, 3]
            raise error("it cannot be used")

    whole, snapshot = MemoryJournal(), Unusable(Checkpoint(1, 7, 0))
    expected = [
        c.tolist() for c in stage1.generate_codes(TASK, Stage1Engine(), VOCAB, whole, snapshots=snapshot)
    ]
    partial = MemoryJournal([list(whole.codes(0)), list(whole.codes(1))[:9]])
    sections = stage1.generate_codes(TASK, Stage1Engine(), VOCAB, partial, snapshots=snapshot)
    assert [c.tolist() for c in sections] == expected
    assert partial.sections == whole.sections


def test_same_seed_same_song_and_another_seed_another() -> None:
    assert generate() == generate()
    assert generate() != generate(replace(TASK, seed=12))
    assert generate() != generate(replace(TASK, candidate=1))


def test_end_of_audio_waits_for_the_minimum_and_for_a_whole_frame() -> None:
    class Eager(Stage1Engine):
        def _logits(self, ids: object) -> np.ndarray:
            logits = super()._logits(ids)  # type: ignore[arg-type]
            logits[VOCAB.eoa] = 1e6
            return logits

    journal = MemoryJournal()
    sections = generate(replace(TASK, sampling=Sampling(min_new_tokens=5)), Eager(), journal)
    assert [len(codes) for codes in sections] == [6, 6, 6]  # id 5 would split a frame
    assert all(journal.codes(i)[-1] == END_OF_AUDIO for i in range(3))


@pytest.mark.parametrize("cut", [(0,), (5,), (24, 0), (24, 9), (24, 24, 1)])
def test_resume_feeds_the_same_steps_and_ends_in_the_same_song(cut: tuple[int, ...]) -> None:
    whole, undisturbed = MemoryJournal(), Stage1Engine()
    expected = generate(engine=undisturbed, journal=whole)
    partial = MemoryJournal([list(whole.codes(i))[:n] for i, n in enumerate(cut)])
    engine = Stage1Engine()
    assert generate(engine=engine, journal=partial) == expected
    assert partial.sections == whole.sections
    fed = [[(row.seq, row.ids) for row in call] for call in engine.calls]
    assert fed == [[(row.seq, row.ids) for row in call] for call in undisturbed.calls]


@pytest.mark.parametrize(
    "checkpoint", [Checkpoint(0, 1, 0), Checkpoint(0, 6, 0), Checkpoint(1, 7, 0), Checkpoint(2, 3, 0)]
)
def test_resume_from_a_snapshot_ends_in_the_same_song(checkpoint: Checkpoint) -> None:
    whole, snapshot = MemoryJournal(), OneSnapshot(checkpoint)
    expected = [
        c.tolist() for c in stage1.generate_codes(TASK, Stage1Engine(), VOCAB, whole, snapshots=snapshot)
    ]
    assert snapshot.taken
    partial = MemoryJournal([list(whole.codes(i)) for i in range(checkpoint.section)])
    for code in list(whole.codes(checkpoint.section))[: checkpoint.codes]:
        partial.append(checkpoint.section, code)
    engine = Stage1Engine()
    sections = stage1.generate_codes(TASK, engine, VOCAB, partial, snapshots=snapshot)
    assert [c.tolist() for c in sections] == expected
    assert len(engine.calls[0][0].ids) == 1  # nothing but the last sampled id was fed again


def test_overflow_drops_the_oldest_section_and_keeps_the_header() -> None:
    need = context_ids(TASK)
    engine = Stage1Engine(n_ctx=need - 25)
    sections = stage1.generate_codes(TASK, engine, VOCAB, MemoryJournal())
    assert len(sections) == 3
    expected = [*PROMPT.header, *PROMPT.sections[1], *VOCAB.ids(sections[1]), VOCAB.eoa]
    expected += [*PROMPT.end_of_segment, *PROMPT.sections[2]]
    assert engine.fed[COND][: len(expected)] == expected


@pytest.mark.parametrize(("beyond", "dropped"), [(1, False), (0, False), (-1, True)])
def test_a_context_of_exactly_the_need_drops_nothing(beyond: int, dropped: bool) -> None:
    sections = generate()
    need = len(PROMPT.header) + sum(map(len, PROMPT.sections)) + 2 * len(PROMPT.end_of_segment)
    need += (
        sum(map(len, sections[:2])) + 2 + 2 * TASK.caps[2] + 1
    )  # until the last section may be at its limit
    engine = Stage1Engine(n_ctx=need + beyond)
    assert generate(engine=engine)[:2] == sections[:2]
    first = [*PROMPT.header, *PROMPT.sections[0]]
    assert (engine.fed[COND][: len(first)] != first) == dropped


def test_a_section_that_cannot_fit_is_refused_in_words() -> None:
    with pytest.raises(RequestError, match="section 1 needs 33 ids of context, of 32"):
        generate(engine=Stage1Engine(n_ctx=32))


def test_interrupt_keeps_every_code() -> None:
    def stop(event: Event) -> None:
        if event.done == 5:
            raise Interrupted("stopped")

    whole, journal = MemoryJournal(), MemoryJournal()
    generate(journal=whole)
    with pytest.raises(Interrupted):
        stage1.generate_codes(TASK, Stage1Engine(), VOCAB, journal, progress=stop)
    assert journal.codes(0) == whole.codes(0)[:10]


def test_progress_counts_frames_and_names_the_section() -> None:
    events: list[Event] = []
    task = replace(TASK, labels=["verse", "chorus", "outro"])
    sections = stage1.generate_codes(task, Stage1Engine(), VOCAB, MemoryJournal(), progress=events.append)
    assert [e.done for e in events] == sorted(e.done for e in events)
    assert events[-1].done == sum(len(codes) // 2 for codes in sections)
    assert events[-1].note == "section 3 of 3, outro"
    assert events[0].total == 36
