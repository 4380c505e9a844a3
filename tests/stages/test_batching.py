"""Batches of songs: they join and leave at any step, and each is generated as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import LONG, PROMPT, VOCAB, generate

from yuegguf.errors import EngineError, Interrupted, RequestError
from yuegguf.lm.protocol import SequenceInput, in_blocks
from yuegguf.progress import Event
from yuegguf.stages import stage1
from yuegguf.stages.batching import LENGTH_STEP, StepBatch
from yuegguf.stages.stage1_task import CandidateTask, ForcedTrack, Stage1Task

Sections = list[list[int]]


def song(
    number: int, caps: Sequence[int] = (12, 12, 12), guidance: float = 1.5, **changes: object
) -> Stage1Task:
    """A task whose prompt is as long as its number says."""
    prompt = replace(PROMPT, header=[*PROMPT.header, *range(30, 30 + number)])
    sampling = replace(LONG.sampling, guidance_first=guidance, guidance_rest=guidance)
    changes = {"n_ctx": 4096, **changes}
    return replace(LONG, prompt=prompt, caps=list(caps), sampling=sampling, seed=number, **changes)


FORCED = ForcedTrack(1, np.arange(40, dtype=np.int16), sets_length=False)
SONGS = [
    song(1),
    song(2, (5, 20, 3)),
    song(3, guidance=1.0),
    song(4, (9, 9, 9), forced=FORCED),
    song(5, (2, 2, 2)),
    song(6, guidance=1.2, speculative=False),
    replace(song(7), sampling=replace(LONG.sampling, guidance_first=1.5, guidance_rest=1.0)),
    song(8, (20, 1, 1), guidance=1.0),
]
"""Prompts, lengths, guidance and given tracks of all kinds."""


def join(batch: StepBatch[list[stage1.SectionCodes]], number: int, task: CandidateTask) -> None:
    batch.join(number, task.n_seqs, partial(stage1.candidate_steps, task, VOCAB))


def plain(sections: object) -> Sections:
    assert isinstance(sections, list), sections
    return [codes.tolist() for codes in sections]


def joined_at(engine: Stage1Engine, tasks: Sequence[CandidateTask], gap: int) -> dict[int, object]:
    """The results of songs of which one joins every `gap` steps."""
    batch: StepBatch[list[stage1.SectionCodes]] = StepBatch(engine)
    results: dict[int, object] = {}
    for number, task in enumerate(tasks):
        join(batch, number, task)
        for _ in range(gap):
            results |= batch.step()
    while len(batch):
        results |= batch.step()
    return results | batch.step()


def tasks_of(songs: Sequence[Stage1Task]) -> list[CandidateTask]:
    return [CandidateTask(each, MemoryJournal()) for each in songs]


@pytest.mark.parametrize("gap", [0, 1, 7, 30])
def test_each_equals_itself_alone_whenever_it_joins(gap: int) -> None:
    results = joined_at(Stage1Engine(n_rows=1, n_ctx=64), tasks_of(SONGS), gap)
    for number, task in enumerate(SONGS):
        assert plain(results[number]) == generate(task, Stage1Engine()), number


def test_steps_are_one_batch_of_neighbouring_sequences() -> None:
    engine = Stage1Engine(n_rows=1)
    joined_at(engine, tasks_of([SONGS[0], SONGS[1], SONGS[4], SONGS[5]]), 0)
    steps = [[row.seq for row in call] for call in engine.calls if all(len(row.ids) == 1 for row in call)]
    assert max(map(len, steps)) == 8
    # songs that read the prompt of a section are not in a step; those that have left leave no gap for ever
    assert sum(seqs == list(range(len(seqs))) for seqs in steps) > 0.7 * len(steps)
    assert steps[-1] in ([0], [0, 1])


def test_a_prompt_is_read_in_blocks_between_the_steps_of_the_others() -> None:
    engine = Stage1Engine(n_rows=4)
    engine.n_batch = 16
    batch: StepBatch[list[stage1.SectionCodes]] = StepBatch(engine)
    first, second = tasks_of([song(1, (30, 30, 30)), song(70)])
    join(batch, 0, first)
    for _ in range(10):
        batch.step()
    engine.calls.clear()
    join(batch, 1, second)
    for _ in range(5):
        batch.step()
    newcomer = [[len(row.ids) for row in call] for call in engine.calls if call[0].seq >= 2]
    assert newcomer == [[16]] * 4 + [[13]]
    others = [call for call in engine.calls if call[0].seq < 2]
    assert len(others) == 5
    engine.calls.clear()
    batch.step()
    assert [row.seq for row in engine.calls[0]] == [0, 1, 2, 3]  # the last ids of the prompt are a step
    batch.close()


def test_a_long_prompt_is_split_as_the_engine_would() -> None:
    inputs = [SequenceInput(0, list(range(40))), SequenceInput(1, [7])]
    blocks = in_blocks(inputs, 16)
    assert [[(each.seq, len(each.ids), each.n_logits) for each in block] for block in blocks] == [
        [(0, 16, 0)], [(0, 16, 0)], [(0, 7, 0)], [(0, 1, 1), (1, 1, 1)]
    ]  # fmt: skip
    assert [i for block in blocks for each in block if each.seq == 0 for i in each.ids] == list(range(40))
    assert in_blocks(inputs, 41) == [inputs]


class Poisoned(Stage1Engine):
    """Fails whenever an id is fed that one song has in its prompt."""

    poison = 33

    def decode(self, inputs: Sequence[SequenceInput]) -> np.ndarray:
        if any(self.poison in each.ids for each in inputs):
            raise EngineError("llama.cpp could not decode")
        return super().decode(inputs)


@pytest.mark.parametrize("gap", [0, 11])
def test_a_song_that_the_engine_refuses_stops_no_other(gap: int) -> None:
    songs = [SONGS[0], song(4), SONGS[2], SONGS[1]]
    results = joined_at(Poisoned(n_rows=1), tasks_of(songs), gap)
    assert isinstance(results.pop(1), EngineError)
    assert {n: plain(found) for n, found in results.items()} == {
        n: generate(songs[n], Stage1Engine()) for n in (0, 2, 3)
    }


def test_a_step_that_fails_for_one_is_taken_by_each_alone() -> None:
    class FailsTogether(Stage1Engine):
        """Fails in every step of the second song once it has fed enough."""

        def decode(self, inputs: Sequence[SequenceInput]) -> np.ndarray:
            if any(each.seq in (2, 3) and len(self.fed[each.seq]) > 25 for each in inputs):
                raise EngineError("llama.cpp could not decode")
            return super().decode(inputs)

    results = joined_at(FailsTogether(n_rows=4), tasks_of(SONGS[:2]), 0)
    assert plain(results[0]) == generate(SONGS[0], Stage1Engine())
    assert isinstance(results[1], EngineError)


def test_a_song_that_fails_at_its_beginning_stops_no_other() -> None:
    long = replace(song(2, (3000, 1, 1)), n_ctx=600)
    results = joined_at(Stage1Engine(n_rows=2), tasks_of([SONGS[0], long]), 3)
    assert isinstance(results[1], RequestError)
    assert plain(results[0]) == generate(SONGS[0], Stage1Engine())


def test_a_stopped_song_goes_on_at_its_exact_code_beside_others() -> None:
    journal = MemoryJournal()

    def stop(event: Event) -> None:
        if event.done == 9:
            raise Interrupted("stopped")

    tasks = [CandidateTask(SONGS[0], journal, progress=stop), *tasks_of(SONGS[1:3])]
    results = joined_at(Stage1Engine(n_rows=6), tasks, 2)
    assert isinstance(results[0], Interrupted)
    assert sum(len(journal.codes(section)) for section in range(3)) >= 18
    for number in (1, 2):
        assert plain(results[number]) == generate(SONGS[number], Stage1Engine())
    again = joined_at(Stage1Engine(n_rows=2), [*tasks_of(SONGS[4:6]), CandidateTask(SONGS[0], journal)], 5)
    assert plain(again[2]) == generate(SONGS[0], Stage1Engine())


def test_a_dropped_song_ends_with_its_error_and_the_others_go_on() -> None:
    batch: StepBatch[list[stage1.SectionCodes]] = StepBatch(Stage1Engine(n_rows=1))
    journals = [MemoryJournal() for _ in range(3)]
    for number, journal in enumerate(journals):
        join(batch, number, CandidateTask(SONGS[number], journal))
    for _ in range(12):
        batch.step()
    batch.drop(0, Interrupted("stopped"))
    results = dict(batch.step())
    assert isinstance(results[0], Interrupted)
    results |= batch.run()
    assert plain(results[1]) == generate(SONGS[1], Stage1Engine())
    assert plain(results[2]) == generate(SONGS[2], Stage1Engine())


def test_sequences_grow_with_the_sections_and_what_is_dropped_is_the_songs_own_matter() -> None:
    short, long = replace(song(1, (12, 12, 12)), n_ctx=60), replace(song(2, (250, 250, 30)), n_ctx=4096)
    engine, sizes = Stage1Engine(n_rows=1, n_ctx=32), []
    resize = engine.resize

    def noted(rows: int, ids: int) -> None:
        sizes.append((rows, ids))
        resize(rows, ids)

    engine.resize = noted  # type: ignore[method-assign]
    results = joined_at(engine, tasks_of([short, long]), 0)
    lengths = [ids for _, ids in sizes]
    assert lengths == sorted(lengths)
    assert {ids % LENGTH_STEP for ids in lengths[1:] if ids > 64} == {0}
    assert plain(results[0]) == generate(short, Stage1Engine(n_ctx=60))
    assert plain(results[1]) == generate(long, Stage1Engine(n_ctx=4096))


def test_songs_without_memory_for_their_sequences_stop_no_other() -> None:
    class Small(Stage1Engine):
        def resize(self, n_rows: int, n_ctx: int) -> None:
            if n_rows * n_ctx > 6 * 1024:
                raise EngineError("llama.cpp could not open the model with so many sequences")
            super().resize(n_rows, n_ctx)

    results = joined_at(Small(n_rows=2, n_ctx=1024), tasks_of([SONGS[0], song(2, (900, 1, 1)), SONGS[5]]), 0)
    assert isinstance(results[1], EngineError)
    assert plain(results[0]) == generate(SONGS[0], Stage1Engine())
    assert plain(results[2]) == generate(SONGS[5], Stage1Engine())


class Sized(Stage1Engine):
    """Notes the size of each context; there is memory for `most` ids."""

    most = 1 << 30

    def __init__(self, n_ctx: int = 4096, n_rows: int = 2) -> None:
        super().__init__(n_ctx, n_rows)
        self.sizes: list[tuple[int, int]] = []

    def resize(self, n_rows: int, n_ctx: int) -> None:
        if n_rows * n_ctx > self.most:
            raise EngineError("llama.cpp could not open the model with so many sequences")
        self.sizes.append((n_rows, n_ctx))
        super().resize(n_rows, n_ctx)


def test_a_song_that_goes_on_alone_needs_no_memory_for_those_that_left() -> None:
    engine = Sized(n_rows=8, n_ctx=LENGTH_STEP)
    engine.most = 8 * LENGTH_STEP
    lasting = song(4, (60, 600, 1))
    results = joined_at(engine, tasks_of([song(1, (2, 2, 2)), song(2, (2, 2, 2)), song(3), lasting]), 0)
    assert plain(results[3]) == generate(lasting, Stage1Engine())
    assert engine.sizes == [(2, 2 * LENGTH_STEP)]


def test_sequences_for_another_song_are_as_long_as_those_present_need() -> None:
    engine = Sized(n_rows=2, n_ctx=LENGTH_STEP)
    batch: StepBatch[list[stage1.SectionCodes]] = StepBatch(engine)
    long, short, newcomer = tasks_of([song(1, (700, 1, 1)), song(2), song(3)])
    join(batch, 0, long)
    join(batch, 1, short)
    batch.step()
    batch.drop(0, Interrupted("stopped"))
    join(batch, 2, newcomer)
    join(batch, 3, CandidateTask(song(5), MemoryJournal()))
    assert engine.sizes == [(2, 2 * LENGTH_STEP), (4, 2 * LENGTH_STEP), (6, LENGTH_STEP)]
    batch.drop(3, Interrupted("stopped"))
    ended = batch.step()
    assert {number: type(result) for number, result in ended.items()} == {0: Interrupted, 3: Interrupted}
    results = batch.run()
    assert plain(results[1]) == generate(song(2), Stage1Engine())
    assert plain(results[2]) == generate(song(3), Stage1Engine())


def test_sequences_of_songs_that_left_are_empty() -> None:
    engine = Stage1Engine(n_rows=6)
    batch: StepBatch[list[stage1.SectionCodes]] = StepBatch(engine)
    for number in range(3):
        join(batch, number, CandidateTask(song(number + 1), MemoryJournal()))
    for _ in range(8):
        batch.step()
    assert all(engine.fed)
    batch.drop(0, Interrupted("stopped"))
    assert [bool(ids) for ids in engine.fed] == [True, True, True, True, False, False]
    batch.drop(2, Interrupted("stopped"))
    assert [bool(ids) for ids in engine.fed] == [True, True, False, False, False, False]
    batch.close()


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_a_take_that_is_dropped_in_the_shared_prompt_stops_no_other(dropped: int) -> None:
    engine = Stage1Engine(n_rows=6)
    engine.n_batch = 16
    batch: StepBatch[list[stage1.SectionCodes]] = StepBatch(engine)
    takes = [replace(song(70), candidate=number, speculative=False) for number in range(3)]
    for number, task in enumerate(takes):
        join(batch, number, CandidateTask(task, MemoryJournal()))
    batch.step()
    assert [len(row.ids) for call in engine.calls for row in call] == [16]  # one prompt for all
    batch.drop(dropped, Interrupted("stopped"))
    batch.drop(dropped, Interrupted("stopped"))  # one that has ended stays as it is
    assert [type(result) for result in batch.step().values()] == [Interrupted]
    results = batch.run()
    assert {number: plain(codes) for number, codes in results.items()} == {
        number: generate(task, Stage1Engine()) for number, task in enumerate(takes) if number != dropped
    }


def test_songs_of_one_prompt_with_other_numbers_of_sequences_read_it_each() -> None:
    tasks = []
    for rest in (1.0, 1.5):  # the first section is sampled without guidance in both
        sampling = replace(LONG.sampling, guidance_first=1.0, guidance_rest=rest)
        tasks.append(replace(song(3), sampling=sampling))
    for order in (tasks, tasks[::-1]):
        results = joined_at(Stage1Engine(n_rows=3), tasks_of(order), 0)
        for number, task in enumerate(order):
            assert plain(results[number]) == generate(task, Stage1Engine())
