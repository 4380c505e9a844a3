"""Candidates side by side: one prompt, one batch a step, and each as if it were alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import LONG, PROMPT, VOCAB, OneSnapshot, sing

from yuegguf.errors import Interrupted
from yuegguf.progress import Event
from yuegguf.stages import stage1
from yuegguf.stages.stage1_task import CandidateTask, Checkpoint, KeptPrefix, Stage1Task

COUNT = 4
DRAFTS = [replace(LONG, candidate=number, guesses=False) for number in range(COUNT)]


def together(
    engine: Stage1Engine, journals: list[MemoryJournal] | None = None, drafts: list[Stage1Task] = DRAFTS
) -> list[list[list[int]]]:
    journals = journals or [MemoryJournal() for _ in drafts]
    parts = [CandidateTask(draft, journal) for draft, journal in zip(drafts, journals, strict=True)]
    return [[codes.tolist() for codes in sung] for sung in stage1.generate_candidates(parts, engine, VOCAB)]


@pytest.mark.parametrize("guidance", [1.5, 1.0])
def test_each_is_the_same_as_alone_and_differs_from_the_others(guidance: float) -> None:
    sampling = replace(LONG.sampling, guidance_first=guidance, guidance_rest=guidance)
    drafts = [replace(draft, sampling=sampling) for draft in DRAFTS]
    sung = together(Stage1Engine(n_rows=2 * COUNT), drafts=drafts)
    assert sung == [sing(draft, Stage1Engine()) for draft in drafts]
    assert len({str(song) for song in sung}) == COUNT


def test_the_first_prompt_is_read_once_and_steps_are_one_batch() -> None:
    engine = Stage1Engine(n_rows=2 * COUNT)
    sung = together(engine)
    first = [*PROMPT.header, *PROMPT.sections[0]]
    assert [row.ids for row in engine.calls[0]] == [first, [VOCAB.xcodec]]
    assert [row.ids for call in engine.calls for row in call].count(first) == 1
    most = max(sum(len(codes) for codes in song) for song in sung)
    sections = sum(len(song) for song in sung)
    assert len(engine.calls) <= most + 2 * sections + 40
    assert max(len(call) for call in engine.calls) == 2 * COUNT


def test_prompts_of_later_sections_are_never_in_a_batch_with_others() -> None:
    engine = Stage1Engine(n_rows=2 * COUNT)
    together(engine)
    for call in engine.calls:
        if any(len(row.ids) > 2 for row in call):
            assert len({row.row // 2 for row in call}) == 1


def test_a_stopped_run_goes_on_where_each_was() -> None:
    expected, journals = together(Stage1Engine(n_rows=2 * COUNT)), [MemoryJournal() for _ in DRAFTS]

    def stop(event: Event) -> None:
        if event.done >= 90:
            raise Interrupted("stopped")

    parts = [CandidateTask(draft, journal) for draft, journal in zip(DRAFTS, journals, strict=True)]
    with pytest.raises(Interrupted):
        stage1.generate_candidates(parts, Stage1Engine(n_rows=2 * COUNT), VOCAB, stop)
    assert all(journal.codes(0) for journal in journals)
    assert together(Stage1Engine(n_rows=2 * COUNT), journals) == expected


def test_snapshots_are_of_the_rows_of_their_own_candidate() -> None:
    whole = [MemoryJournal() for _ in range(2)]
    snapshots = [OneSnapshot(Checkpoint(1, 7, 0)), OneSnapshot(Checkpoint(0, 5, 0))]
    parts = [CandidateTask(*part) for part in zip(DRAFTS[:2], whole, snapshots, strict=True)]
    expected = stage1.generate_candidates(parts, Stage1Engine(n_rows=4), VOCAB)
    assert all(snapshot.taken for snapshot in snapshots)
    partial = [
        MemoryJournal([list(whole[0].codes(0)), list(whole[0].codes(1))[:7]]),
        MemoryJournal([list(whole[1].codes(0))[:5]]),
    ]
    engine = Stage1Engine(n_rows=4)
    again = [CandidateTask(*part) for part in zip(DRAFTS[:2], partial, snapshots, strict=True)]
    found = stage1.generate_candidates(again, engine, VOCAB)
    assert [[c.tolist() for c in song] for song in found] == [[c.tolist() for c in song] for song in expected]
    assert all(len(row.ids) <= 2 for row in engine.calls[0])


def test_candidates_go_on_from_the_same_given_part() -> None:
    start = MemoryJournal()
    sing(LONG, Stage1Engine(), start)
    drafts = [replace(draft, given=KeptPrefix(1)) for draft in DRAFTS]
    journals = [MemoryJournal([list(start.codes(0))]) for _ in drafts]
    sung = together(Stage1Engine(n_rows=2 * COUNT), journals, drafts)
    assert len({str(song[0]) for song in sung}) == 1
    assert len({str(song[1:]) for song in sung}) == COUNT


def test_progress_is_that_of_all() -> None:
    events: list[Event] = []
    parts = [CandidateTask(draft, MemoryJournal()) for draft in DRAFTS]
    sung = stage1.generate_candidates(parts, Stage1Engine(n_rows=2 * COUNT), VOCAB, events.append)
    assert events[-1].done == sum(len(codes) // 2 for song in sung for codes in song)
    assert all(before.done <= after.done for before, after in pairwise(events))
    assert events[0].note.startswith("4 takes, section 1 of 3")
