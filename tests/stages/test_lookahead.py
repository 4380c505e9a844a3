"""Guesses save steps and change nothing: what is drawn, what the rows hold, what a resume does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import MemoryJournal
from tasks import LONG, PROMPT, VOCAB, OneSnapshot, Refrain, sing

from yuegguf.stages import stage1
from yuegguf.stages.lookahead import NgramDrafter
from yuegguf.stages.stage1 import COND, UNCOND
from yuegguf.stages.stage1_task import END_OF_AUDIO, Checkpoint


def guessing(monkeypatch: pytest.MonkeyPatch, how: object) -> None:
    monkeypatch.setattr(NgramDrafter, "guess", how)


def test_guesses_save_steps_and_change_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = Refrain(), Refrain()
    sung = sing(LONG, quick)
    guessing(monkeypatch, lambda self: None)
    assert sing(LONG, slow) == sung
    draws = sum(len(codes) for codes in sung)
    assert len(slow.calls) >= draws
    assert len(quick.calls) < 0.75 * draws
    assert quick.fed == slow.fed


@pytest.mark.parametrize("guess", [0, 100, 1023])
def test_wrong_guesses_are_taken_back(guess: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, wrong = Refrain(), Refrain()
    guessing(monkeypatch, lambda self: None)
    expected = sing(LONG, plain)
    guessing(monkeypatch, lambda self: guess)
    assert sing(LONG, wrong) == expected
    assert wrong.fed == plain.fed


def test_a_guess_is_fed_to_both_rows_beside_their_own_id_and_never_with_a_prompt() -> None:
    engine = Refrain()
    sing(LONG, engine)
    guessed = [call for call in engine.calls if call[0].wanted == 2]
    assert guessed
    for cond, uncond in guessed:
        assert cond.ids == uncond.ids
        assert len(cond.ids) == 2
        assert uncond.wanted == 2


def test_nothing_is_guessed_without_guidance() -> None:
    plain = replace(LONG, sampling=replace(LONG.sampling, guidance_first=1.0))
    engine = Refrain()
    sung = sing(plain, engine)
    first = engine.calls[: len(sung[0])]
    assert {len(row.ids) for call in first[1:] for row in call} == {1}
    assert any(row.wanted == 2 for call in engine.calls for row in call)  # later sections are guided


def test_the_context_is_the_official_one_and_nothing_goes_beyond_its_end() -> None:
    engine, journal = Refrain(n_ctx=4 + 4 + 2 * 30 + 1), MemoryJournal()
    draft = replace(LONG, prompt=replace(PROMPT, sections=PROMPT.sections[:1]), caps=[30])
    (codes,) = sing(draft, engine, journal)
    context = [*PROMPT.header, *PROMPT.sections[0], *(VOCAB.codebook0 + code for code in codes)]
    end = 0 if journal.codes(0)[-1] == END_OF_AUDIO else 1
    assert engine.fed[COND] == context[: len(context) - end]
    assert engine.fed[UNCOND] == context[len(PROMPT.header) + 3 : len(context) - end]


@pytest.mark.slow
@pytest.mark.parametrize("section", [0, 1, 2])
def test_a_resume_at_any_draw_feeds_the_same_steps(section: int) -> None:
    whole, undisturbed = MemoryJournal(), Refrain()
    expected = sing(LONG, undisturbed, whole)
    fed = [[(row.row, row.ids) for row in call] for call in undisturbed.calls]
    for cut in range(len(whole.codes(section)) + 1):
        partial = MemoryJournal([list(whole.codes(i)) for i in range(section)])
        partial.sections[section] = list(whole.codes(section))[:cut]
        engine = Refrain()
        assert sing(LONG, engine, partial) == expected
        assert [[(row.row, row.ids) for row in call] for call in engine.calls] == fed
        later = [call for call in engine.calls if call[0].wanted]
        assert later == undisturbed.calls[len(undisturbed.calls) - len(later) :]  # the same logits, too


@pytest.mark.slow
def test_a_snapshot_at_any_step_goes_on_with_the_same_steps() -> None:
    whole, undisturbed = MemoryJournal(), Refrain()
    expected = sing(LONG, undisturbed, whole)
    for codes in range(1, 25):
        snapshot = OneSnapshot(Checkpoint(1, codes, 0))
        stage1.generate_codes(LONG, Refrain(), VOCAB, MemoryJournal(), snapshot)
        if not snapshot.taken:  # the last guess came true, so there was no step before this draw
            continue
        engine = Refrain()
        partial = MemoryJournal([list(whole.codes(0)), list(whole.codes(1))[:codes]])
        assert [c.tolist() for c in stage1.generate_codes(LONG, engine, VOCAB, partial, snapshot)] == expected
        assert engine.calls == undisturbed.calls[len(undisturbed.calls) - len(engine.calls) :]


def test_a_guess_is_what_followed_most_often_in_its_track() -> None:
    guesser = NgramDrafter()
    assert guesser.guess() is None
    for code in (1, 50, 2, 60, 1, 50, 3, 60, 1, 50, 2):
        guesser.learn(code)
    assert guesser.guess() == 60  # the instrumental: 50 then 60, twice
    guesser.learn(60)
    guesser.learn(1)
    assert guesser.guess() == 50
    guesser.learn(70)
    assert guesser.guess() == 3  # the vocal: after 2 and then 1 came 3, though 2 is more frequent after 1


def test_nothing_is_guessed_that_is_not_likely() -> None:
    guesser = NgramDrafter()
    for code in (9, 0, 1, 0, 9, 0, 2, 0, 9, 0, 3, 0, 9):
        guesser.learn(code)
    assert guesser.guess() == 0
    guesser.learn(0)
    assert guesser.guess() is None  # after 9 came 1, 2 and 3: a quarter each, with one unknown case
