"""A song that goes on from what is there: given codes are read like a prompt, and the rest is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import LONG, PROMPT, VOCAB, OneSnapshot, Refrain, sing

from yuegguf.stages import stage1
from yuegguf.stages.stage1 import COND, UNCOND
from yuegguf.stages.stage1_task import END_OF_AUDIO, Checkpoint, KeptPrefix


def base(given: KeptPrefix) -> MemoryJournal:
    """A journal that holds the given part of a song."""
    whole = MemoryJournal()
    sing(LONG, Refrain(), whole)
    journal = MemoryJournal([list(whole.codes(i)) for i in range(given.sections)])
    for code in list(whole.codes(given.sections))[: given.codes]:
        journal.append(given.sections, code)
    return journal


GIVEN = [KeptPrefix(1), KeptPrefix(2), KeptPrefix(0, 10), KeptPrefix(1, 2), KeptPrefix(2, 8)]


@pytest.mark.parametrize("given", GIVEN)
def test_given_codes_stay_and_are_read_in_one_go(given: KeptPrefix) -> None:
    journal, engine = base(given), Refrain()
    before = MemoryJournal([list(codes) for codes in journal.sections.values()])
    sung = sing(replace(LONG, given=given), engine, journal)
    assert len(sung) == 3
    for section in range(given.sections):
        assert sung[section] == [code for code in before.codes(section) if code != END_OF_AUDIO]
    assert sung[given.sections][: given.codes] == before.codes(given.sections)
    expected = list(PROMPT.header)
    for section in range(given.sections + 1):
        expected += [*(PROMPT.end_of_segment if section else []), *PROMPT.sections[section]]
        if section < given.sections:
            expected += [*VOCAB.ids(sung[section]), VOCAB.eoa]
    expected += VOCAB.ids(before.codes(given.sections))
    assert engine.calls[0][COND].ids == expected


@pytest.mark.parametrize("given", GIVEN)
def test_the_unconditional_row_starts_at_the_last_id_that_is_not_drawn(given: KeptPrefix) -> None:
    """As `generate` of transformers does, which sees one prompt; and YuE-UI."""
    journal, engine = base(given), Refrain()
    codes = list(journal.codes(given.sections))
    sing(replace(LONG, given=given), engine, journal)
    first = VOCAB.codebook0 + codes[-1] if given.codes else VOCAB.xcodec
    assert engine.calls[0][UNCOND].ids == [first]


def test_nothing_is_drawn_of_what_is_given() -> None:
    class Watched(MemoryJournal):
        def append(self, section: int, code: int) -> None:
            drawn.append(section)
            super().append(section, code)

    drawn: list[int] = []
    journal = Watched(list(base(KeptPrefix(1, 4)).sections.values()))
    sung = sing(replace(LONG, given=KeptPrefix(1, 4)), Refrain(), journal)
    ends = sum(journal.codes(i)[-1] == END_OF_AUDIO for i in (1, 2))
    assert len(drawn) == len(sung[1]) - 4 + len(sung[2]) + ends


@pytest.mark.slow
@pytest.mark.parametrize("given", [KeptPrefix(1), KeptPrefix(1, 6)])
def test_a_resume_at_any_draw_feeds_the_same_steps(given: KeptPrefix) -> None:
    draft, journal, undisturbed = replace(LONG, given=given), base(given), Refrain()
    expected = sing(draft, undisturbed, journal)
    fed = [[(row.row, row.ids) for row in call] for call in undisturbed.calls]
    for cut in range(given.codes, len(journal.codes(1)) + 1):
        partial = MemoryJournal([list(journal.codes(0)), list(journal.codes(1))[:cut]])
        engine = Refrain()
        assert sing(draft, engine, partial) == expected
        assert [[(row.row, row.ids) for row in call] for call in engine.calls] == fed


@pytest.mark.slow
@pytest.mark.parametrize("given", [KeptPrefix(1), KeptPrefix(1, 6)])
def test_a_snapshot_at_any_step_goes_on_with_the_same_steps(given: KeptPrefix) -> None:
    draft, whole, undisturbed = replace(LONG, given=given), base(given), Refrain()
    expected = sing(draft, undisturbed, whole)
    taken = 0
    for codes in range(given.codes + 1, 25):
        snapshot = OneSnapshot(Checkpoint(1, codes, 0))
        stage1.generate_codes(draft, Refrain(), VOCAB, base(given), snapshot)
        if snapshot.taken:
            engine, taken = Refrain(), taken + 1
            partial = MemoryJournal([list(whole.codes(0)), list(whole.codes(1))[:codes]])
            assert [
                c.tolist() for c in stage1.generate_codes(draft, engine, VOCAB, partial, snapshot)
            ] == expected
            assert engine.calls == undisturbed.calls[len(undisturbed.calls) - len(engine.calls) :]
    assert taken


def test_the_shortest_part_is_waited_for_from_where_the_draws_begin() -> None:
    class Eager(Stage1Engine):
        def _logits(self, ids: object) -> object:
            logits = super()._logits(ids)  # type: ignore[arg-type]
            logits[VOCAB.eoa] = 1e6
            return logits

    sung = sing(replace(LONG, given=KeptPrefix(0, 10)), Eager(), base(KeptPrefix(0, 10)))
    assert [len(section) for section in sung] == [14, 4, 4]
