"""Speculative decoding saves steps and changes nothing: codes, caches and resumes are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import MemoryJournal
from tasks import LONG, PROMPT, VOCAB, OneSnapshot, Refrain, generate

from yuegguf.stages import stage1
from yuegguf.stages.lookahead import MIN_CONFIDENCE, NgramDrafter, confidence_for
from yuegguf.stages.sampler import COND, UNCOND
from yuegguf.stages.stage1_task import END_OF_AUDIO, Checkpoint


def predicting(monkeypatch: pytest.MonkeyPatch, predict: object) -> None:
    monkeypatch.setattr(NgramDrafter, "predict", predict)


def test_drafted_codes_save_steps_and_change_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = Refrain(), Refrain()
    sections = generate(LONG, quick)
    predicting(monkeypatch, lambda self: None)
    assert generate(LONG, slow) == sections
    count = sum(len(codes) for codes in sections)
    assert len(slow.calls) >= count
    assert len(quick.calls) < 0.75 * count
    assert quick.fed == slow.fed


def test_the_confidence_of_a_task_decides_how_many_codes_are_drafted_and_changes_none() -> None:
    sections, drafted = [], []
    for confidence in (0.0, 0.3, 0.7, 1.0):
        engine = Refrain()
        sections.append(generate(replace(LONG, confidence=confidence), engine))
        drafted.append(sum(call[0].n_logits == 2 for call in engine.calls))
    assert all(codes == sections[0] for codes in sections)
    assert drafted == sorted(drafted, reverse=True)
    assert len(set(drafted)) == 4
    assert drafted[-1] == 0  # one unseen follower is always counted


def test_the_more_a_draft_costs_the_more_likely_it_has_to_be() -> None:
    assert confidence_for(None) == MIN_CONFIDENCE
    prices = [-0.5, 0.0, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.8, 9.0]
    found = [confidence_for(price) for price in prices]
    assert found == [0.05, 0.05, 0.15, 0.3, 0.3, 0.45, 0.6, 0.6, 0.85, 0.85]


@pytest.mark.parametrize("draft", [0, 100, 1023])
def test_wrong_drafts_are_rejected(draft: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, wrong = Refrain(), Refrain()
    predicting(monkeypatch, lambda self: None)
    expected = generate(LONG, plain)
    predicting(monkeypatch, lambda self: draft)
    assert generate(LONG, wrong) == expected
    assert wrong.fed == plain.fed


def test_a_draft_is_fed_to_both_sequences_beside_their_own_id_and_never_with_a_prompt() -> None:
    engine = Refrain()
    generate(LONG, engine)
    drafted = [call for call in engine.calls if call[0].n_logits == 2]
    assert drafted
    for cond, uncond in drafted:
        assert cond.ids == uncond.ids
        assert len(cond.ids) == 2
        assert uncond.n_logits == 2


def test_nothing_is_drafted_without_guidance() -> None:
    plain = replace(LONG, sampling=replace(LONG.sampling, guidance_first=1.0))
    engine = Refrain()
    sections = generate(plain, engine)
    first = engine.calls[: len(sections[0])]
    assert {len(row.ids) for call in first[1:] for row in call} == {1}
    assert any(row.n_logits == 2 for call in engine.calls for row in call)  # later sections are guided


def test_the_context_is_the_official_one_and_nothing_goes_beyond_its_end() -> None:
    engine, journal = Refrain(n_ctx=4 + 4 + 2 * 30 + 1), MemoryJournal()
    task = replace(LONG, prompt=replace(PROMPT, sections=PROMPT.sections[:1]), caps=[30])
    (codes,) = generate(task, engine, journal)
    context = [*PROMPT.header, *PROMPT.sections[0], *(VOCAB.codebook0 + code for code in codes)]
    end = 0 if journal.codes(0)[-1] == END_OF_AUDIO else 1
    assert engine.fed[COND] == context[: len(context) - end]
    assert engine.fed[UNCOND] == context[len(PROMPT.header) + 3 : len(context) - end]


@pytest.mark.slow
@pytest.mark.parametrize(("section", "confidence"), [(0, 0.3), (1, 0.3), (2, 0.3), (1, 0.05), (2, 0.6)])
def test_a_resume_at_any_code_feeds_the_same_steps(section: int, confidence: float) -> None:
    whole, undisturbed, task = MemoryJournal(), Refrain(), replace(LONG, confidence=confidence)
    expected = generate(task, undisturbed, whole)
    fed = [[(row.seq, row.ids) for row in call] for call in undisturbed.calls]
    for cut in range(len(whole.codes(section)) + 1):
        partial = MemoryJournal([list(whole.codes(i)) for i in range(section)])
        partial.sections[section] = list(whole.codes(section))[:cut]
        engine = Refrain()
        assert generate(task, engine, partial) == expected
        assert [[(row.seq, row.ids) for row in call] for call in engine.calls] == fed
        later = [call for call in engine.calls if call[0].n_logits]
        assert later == undisturbed.calls[len(undisturbed.calls) - len(later) :]  # the same logits, too


@pytest.mark.slow
def test_a_snapshot_at_any_step_continues_with_the_same_steps() -> None:
    whole, undisturbed = MemoryJournal(), Refrain()
    expected = generate(LONG, undisturbed, whole)
    for codes in range(1, 25):
        snapshot = OneSnapshot(Checkpoint(1, codes, 0))
        stage1.generate_codes(LONG, Refrain(), VOCAB, MemoryJournal(), snapshots=snapshot)
        if not snapshot.taken:  # the last draft was accepted, so there was no step before this draw
            continue
        engine = Refrain()
        partial = MemoryJournal([list(whole.codes(0)), list(whole.codes(1))[:codes]])
        assert [
            c.tolist() for c in stage1.generate_codes(LONG, engine, VOCAB, partial, snapshots=snapshot)
        ] == expected
        assert engine.calls == undisturbed.calls[len(undisturbed.calls) - len(engine.calls) :]


def test_a_draft_is_the_most_frequent_follower_in_its_track() -> None:
    drafter = NgramDrafter()
    assert drafter.predict() is None
    for code in (1, 50, 2, 60, 1, 50, 3, 60, 1, 50, 2):
        drafter.update(code)
    assert drafter.predict() == 60  # the instrumental: 50 then 60, twice
    drafter.update(60)
    drafter.update(1)
    assert drafter.predict() == 50
    drafter.update(70)
    assert drafter.predict() == 3  # the vocal: after 2 and then 1 came 3, though 2 is more frequent after 1


def test_nothing_is_drafted_that_is_not_likely() -> None:
    drafter = NgramDrafter()
    for code in (9, 0, 1, 0, 9, 0, 2, 0, 9, 0, 3, 0, 9):
        drafter.update(code)
    assert drafter.predict() == 0
    drafter.update(0)
    assert drafter.predict() is None  # after 9 came 1, 2 and 3: a quarter each, with one unknown case
