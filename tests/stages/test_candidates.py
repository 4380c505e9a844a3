"""Lock-step batching: one prompt, one batch a step, and each candidate as if it were alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import LONG, PROMPT, VOCAB, OneSnapshot, generate

from yuegguf.errors import Interrupted
from yuegguf.progress import Event
from yuegguf.stages import stage1
from yuegguf.stages.stage1_task import CandidateTask, Checkpoint, KeptPrefix, Stage1Task

COUNT = 4
TASKS = [replace(LONG, candidate=number, speculative=False) for number in range(COUNT)]


def together(
    engine: Stage1Engine, journals: list[MemoryJournal] | None = None, tasks: list[Stage1Task] = TASKS
) -> list[list[list[int]]]:
    journals = journals or [MemoryJournal() for _ in tasks]
    candidates = [CandidateTask(task, journal) for task, journal in zip(tasks, journals, strict=True)]
    return [
        [codes.tolist() for codes in song] for song in stage1.generate_candidates(candidates, engine, VOCAB)
    ]


@pytest.mark.parametrize("guidance", [1.5, 1.0])
def test_each_is_the_same_as_alone_and_differs_from_the_others(guidance: float) -> None:
    sampling = replace(LONG.sampling, guidance_first=guidance, guidance_rest=guidance)
    tasks = [replace(task, sampling=sampling) for task in TASKS]
    songs = together(Stage1Engine(n_rows=2 * COUNT), tasks=tasks)
    assert songs == [generate(task, Stage1Engine()) for task in tasks]
    assert len({str(song) for song in songs}) == COUNT


def test_the_first_prompt_is_decoded_once_and_steps_are_one_batch() -> None:
    engine = Stage1Engine(n_rows=2 * COUNT)
    songs = together(engine)
    first = [*PROMPT.header, *PROMPT.sections[0]]
    assert [row.ids for row in engine.calls[0]] == [first, [VOCAB.xcodec]]
    assert [row.ids for call in engine.calls for row in call].count(first) == 1
    most = max(sum(len(codes) for codes in song) for song in songs)
    sections = sum(len(song) for song in songs)
    assert len(engine.calls) <= most + 2 * sections + 40
    assert max(len(call) for call in engine.calls) == 2 * COUNT


def test_prompts_of_later_sections_are_never_in_a_batch_with_others() -> None:
    engine = Stage1Engine(n_rows=2 * COUNT)
    together(engine)
    for call in engine.calls:
        if any(len(row.ids) > 2 for row in call):
            assert len({row.seq // 2 for row in call}) == 1


def test_a_stopped_run_continues_every_candidate() -> None:
    expected, journals = together(Stage1Engine(n_rows=2 * COUNT)), [MemoryJournal() for _ in TASKS]

    def stop(event: Event) -> None:
        if event.done >= 25:
            raise Interrupted("stopped")

    candidates = [
        CandidateTask(task, journal, progress=stop) for task, journal in zip(TASKS, journals, strict=True)
    ]
    with pytest.raises(Interrupted):
        stage1.generate_candidates(candidates, Stage1Engine(n_rows=2 * COUNT), VOCAB)
    assert all(journal.codes(0) for journal in journals)
    assert together(Stage1Engine(n_rows=2 * COUNT), journals) == expected


def test_snapshots_are_of_the_rows_of_their_own_candidate() -> None:
    whole = [MemoryJournal() for _ in range(2)]
    snapshots = [OneSnapshot(Checkpoint(1, 7, 0)), OneSnapshot(Checkpoint(0, 5, 0))]
    candidates = [CandidateTask(*part) for part in zip(TASKS[:2], whole, snapshots, strict=True)]
    expected = stage1.generate_candidates(candidates, Stage1Engine(n_rows=4), VOCAB)
    assert all(snapshot.taken for snapshot in snapshots)
    partial = [
        MemoryJournal([list(whole[0].codes(0)), list(whole[0].codes(1))[:7]]),
        MemoryJournal([list(whole[1].codes(0))[:5]]),
    ]
    engine = Stage1Engine(n_rows=4)
    again = [CandidateTask(*part) for part in zip(TASKS[:2], partial, snapshots, strict=True)]
    found = stage1.generate_candidates(again, engine, VOCAB)
    assert [[c.tolist() for c in song] for song in found] == [[c.tolist() for c in song] for song in expected]
    assert all(len(row.ids) <= 2 for row in engine.calls[0])


def test_candidates_continue_the_same_kept_prefix() -> None:
    start = MemoryJournal()
    generate(LONG, Stage1Engine(), start)
    tasks = [replace(task, kept_prefix=KeptPrefix(1)) for task in TASKS]
    journals = [MemoryJournal([list(start.codes(0))]) for _ in tasks]
    songs = together(Stage1Engine(n_rows=2 * COUNT), journals, tasks)
    assert len({str(song[0]) for song in songs}) == 1
    assert len({str(song[1:]) for song in songs}) == COUNT


def test_each_reports_its_own_progress() -> None:
    events: list[list[Event]] = [[] for _ in TASKS]
    candidates = [
        CandidateTask(task, MemoryJournal(), progress=own.append)
        for task, own in zip(TASKS, events, strict=True)
    ]
    songs = stage1.generate_candidates(candidates, Stage1Engine(n_rows=2 * COUNT), VOCAB)
    for song, own in zip(songs, events, strict=True):
        assert [event.done for event in own][-1] == sum(len(codes) // 2 for codes in song)
        assert all(before.done <= after.done for before, after in pairwise(own))
        assert own[0].note.startswith("section 1 of 3")
