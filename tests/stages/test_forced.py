"""Teacher forcing: a track's codes come out frame for frame, and the other is conditioned on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import LONG, PROMPT, VOCAB, Refrain, generate

from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage1
from yuegguf.stages.sampler import COND, UNCOND
from yuegguf.stages.stage1_task import END_OF_AUDIO, ForcedTrack, Stage1Task

CODES = np.random.default_rng(3).integers(0, 1024, 90).astype(np.int16)
SILENCE = np.full(90, 464, np.int16)


def forced(
    track: int, codes: np.ndarray = CODES, sets_length: bool = True, task: Stage1Task = LONG
) -> Stage1Task:
    return replace(task, forced=ForcedTrack(track, codes, sets_length))


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("track", [0, 1])
def test_a_forced_track_comes_out_unchanged(track: int, guided: bool) -> None:
    sampling = LONG.sampling if guided else Sampling(guidance_first=1, guidance_rest=1, min_new_tokens=4)
    sections = generate(replace(forced(track), sampling=sampling), Stage1Engine())
    codes = np.concatenate([np.array(section) for section in sections]).reshape(-1, 2)
    assert [len(section) for section in sections] == [60, 60, 60]
    assert (codes[:, track] == CODES).all()
    assert (codes[:, 1 - track] != CODES).any()


@pytest.mark.parametrize("track", [0, 1])
def test_the_sequences_hold_the_forced_codes_in_the_place_of_sampled_ones(track: int) -> None:
    engine = Stage1Engine()
    task = replace(forced(track), prompt=replace(PROMPT, sections=PROMPT.sections[:1]), caps=[30])
    (codes,) = generate(task, engine)
    ids = VOCAB.ids(np.array(codes))[:-1]
    assert engine.fed[COND] == [*PROMPT.header, *PROMPT.sections[0], *ids]
    assert engine.fed[UNCOND] == [VOCAB.xcodec, *ids]


@pytest.mark.parametrize("track", [0, 1])
def test_a_frame_takes_one_step(track: int) -> None:
    engine = Stage1Engine()
    sections = generate(forced(track), engine)
    frames = sum(len(section) // 2 for section in sections)
    assert len(engine.calls) <= frames + 2 * len(sections)


def test_with_a_silent_vocal_the_model_still_ends_its_sections() -> None:
    class Eager(Stage1Engine):
        def _logits(self, ids: object) -> np.ndarray:
            logits = super()._logits(ids)  # type: ignore[arg-type]
            logits[VOCAB.eoa] = 1e6
            return logits

    sections = generate(forced(0, SILENCE, sets_length=False), Eager())
    assert [len(section) for section in sections] == [4, 4, 4]
    assert all(section[::2] == [464, 464] for section in sections)
    assert [len(section) for section in generate(forced(0, SILENCE), Eager())] == [60, 60, 60]


@pytest.mark.slow
@pytest.mark.parametrize("track", [0, 1])
@pytest.mark.parametrize("sets_length", [True, False])
def test_a_resume_at_any_code_feeds_the_same_steps(track: int, sets_length: bool) -> None:
    task = forced(track, sets_length=sets_length)
    journal, undisturbed = MemoryJournal(), Refrain()
    expected = generate(task, undisturbed, journal)
    fed = [[(row.seq, row.ids) for row in call] for call in undisturbed.calls]
    for cut in range(len(journal.codes(1)) + 1):
        partial = MemoryJournal([list(journal.codes(0)), list(journal.codes(1))[:cut]])
        engine = Refrain()
        assert generate(task, engine, partial) == expected
        assert [[(row.seq, row.ids) for row in call] for call in engine.calls] == fed


def test_codes_of_the_other_track_do_not_depend_on_how_the_forced_one_is_fed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, slow = forced(0), Stage1Engine()
    expected = generate(task, Stage1Engine())
    monkeypatch.setattr(stage1._Candidate, "_draft", lambda self, section, codes: None)
    assert generate(task, slow) == expected
    assert len(slow.calls) >= 2 * 90


def test_a_track_that_sets_the_length_never_ends_a_section_early() -> None:
    journal = MemoryJournal()
    generate(forced(0), Stage1Engine(), journal)
    assert END_OF_AUDIO not in [code for i in range(3) for code in journal.codes(i)]
