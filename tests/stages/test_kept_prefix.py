"""A kept prefix is fed like a prompt, and the rest is sampled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import LONG, PROMPT, VOCAB, OneSnapshot, Refrain, generate

from yuegguf.stages import stage1
from yuegguf.stages.sampler import COND, UNCOND
from yuegguf.stages.stage1_task import END_OF_AUDIO, Checkpoint, KeptPrefix


def base(kept: KeptPrefix) -> MemoryJournal:
    """A journal that holds the kept prefix of a song."""
    whole = MemoryJournal()
    generate(LONG, Refrain(), whole)
    journal = MemoryJournal([list(whole.codes(i)) for i in range(kept.sections)])
    for code in list(whole.codes(kept.sections))[: kept.codes]:
        journal.append(kept.sections, code)
    return journal


PREFIXES = [KeptPrefix(1), KeptPrefix(2), KeptPrefix(0, 10), KeptPrefix(1, 2), KeptPrefix(2, 8)]


@pytest.mark.parametrize("kept", PREFIXES)
def test_kept_codes_stay_and_are_fed_in_one_call(kept: KeptPrefix) -> None:
    journal, engine = base(kept), Refrain()
    before = MemoryJournal([list(codes) for codes in journal.sections.values()])
    sections = generate(replace(LONG, kept_prefix=kept), engine, journal)
    assert len(sections) == 3
    for section in range(kept.sections):
        assert sections[section] == [code for code in before.codes(section) if code != END_OF_AUDIO]
    assert sections[kept.sections][: kept.codes] == before.codes(kept.sections)
    expected = list(PROMPT.header)
    for section in range(kept.sections + 1):
        expected += [*(PROMPT.end_of_segment if section else []), *PROMPT.sections[section]]
        if section < kept.sections:
            expected += [*VOCAB.ids(sections[section]), VOCAB.eoa]
    expected += VOCAB.ids(before.codes(kept.sections))
    assert engine.calls[0][COND].ids == expected


@pytest.mark.parametrize("kept", PREFIXES)
def test_the_unconditional_sequence_starts_at_the_last_id_that_is_not_sampled(kept: KeptPrefix) -> None:
    """As `generate` of transformers does, which sees one prompt; and YuE-UI."""
    journal, engine = base(kept), Refrain()
    codes = list(journal.codes(kept.sections))
    generate(replace(LONG, kept_prefix=kept), engine, journal)
    first = VOCAB.codebook0 + codes[-1] if kept.codes else VOCAB.xcodec
    assert engine.calls[0][UNCOND].ids == [first]


def test_kept_codes_are_not_sampled() -> None:
    class Recording(MemoryJournal):
        def append(self, section: int, code: int) -> None:
            recorded.append(section)
            super().append(section, code)

    recorded: list[int] = []
    journal = Recording(list(base(KeptPrefix(1, 4)).sections.values()))
    sections = generate(replace(LONG, kept_prefix=KeptPrefix(1, 4)), Refrain(), journal)
    ends = sum(journal.codes(i)[-1] == END_OF_AUDIO for i in (1, 2))
    assert len(recorded) == len(sections[1]) - 4 + len(sections[2]) + ends


@pytest.mark.slow
@pytest.mark.parametrize("kept", [KeptPrefix(1), KeptPrefix(1, 6)])
def test_a_resume_at_any_code_feeds_the_same_steps(kept: KeptPrefix) -> None:
    task, journal, undisturbed = replace(LONG, kept_prefix=kept), base(kept), Refrain()
    expected = generate(task, undisturbed, journal)
    fed = [[(row.seq, row.ids) for row in call] for call in undisturbed.calls]
    for cut in range(kept.codes, len(journal.codes(1)) + 1):
        partial = MemoryJournal([list(journal.codes(0)), list(journal.codes(1))[:cut]])
        engine = Refrain()
        assert generate(task, engine, partial) == expected
        assert [[(row.seq, row.ids) for row in call] for call in engine.calls] == fed


@pytest.mark.slow
@pytest.mark.parametrize("kept", [KeptPrefix(1), KeptPrefix(1, 6)])
def test_a_snapshot_at_any_step_continues_with_the_same_steps(kept: KeptPrefix) -> None:
    task, whole, undisturbed = replace(LONG, kept_prefix=kept), base(kept), Refrain()
    expected = generate(task, undisturbed, whole)
    taken = 0
    for codes in range(kept.codes + 1, 25):
        snapshot = OneSnapshot(Checkpoint(1, codes, 0))
        stage1.generate_codes(task, Refrain(), VOCAB, base(kept), snapshots=snapshot)
        if snapshot.taken:
            engine, taken = Refrain(), taken + 1
            partial = MemoryJournal([list(whole.codes(0)), list(whole.codes(1))[:codes]])
            assert [
                c.tolist() for c in stage1.generate_codes(task, engine, VOCAB, partial, snapshots=snapshot)
            ] == expected
            assert engine.calls == undisturbed.calls[len(undisturbed.calls) - len(engine.calls) :]
    assert taken


def test_the_minimum_length_counts_from_the_first_sampled_code() -> None:
    class Eager(Stage1Engine):
        def _logits(self, ids: object) -> object:
            logits = super()._logits(ids)  # type: ignore[arg-type]
            logits[VOCAB.eoa] = 1e6
            return logits

    sections = generate(replace(LONG, kept_prefix=KeptPrefix(0, 10)), Eager(), base(KeptPrefix(0, 10)))
    assert [len(section) for section in sections] == [14, 4, 4]
