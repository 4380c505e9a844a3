"""A given track: its codes come out frame for frame, and the model hears them while it sings the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import MemoryJournal, Stage1Engine
from tasks import LONG, PROMPT, VOCAB, Refrain, sing

from yuegguf.request.sampling import Sampling
from yuegguf.stages import stage1
from yuegguf.stages.stage1 import COND, UNCOND
from yuegguf.stages.stage1_task import END_OF_AUDIO, ForcedTrack, Stage1Task

CODES = np.random.default_rng(3).integers(0, 1024, 90).astype(np.int16)
SILENCE = np.full(90, 464, np.int16)


def forced(track: int, codes: np.ndarray = CODES, whole: bool = True, draft: Stage1Task = LONG) -> Stage1Task:
    return replace(draft, forced=ForcedTrack(track, codes, whole))


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("track", [0, 1])
def test_a_given_track_comes_out_as_it_went_in(track: int, guided: bool) -> None:
    sampling = LONG.sampling if guided else Sampling(guidance_first=1, guidance_rest=1, min_new_tokens=4)
    sung = sing(replace(forced(track), sampling=sampling), Stage1Engine())
    codes = np.concatenate([np.array(section) for section in sung]).reshape(-1, 2)
    assert [len(section) for section in sung] == [60, 60, 60]
    assert (codes[:, track] == CODES).all()
    assert (codes[:, 1 - track] != CODES).any()


@pytest.mark.parametrize("track", [0, 1])
def test_the_rows_hold_the_given_codes_where_a_song_of_its_own_would(track: int) -> None:
    engine = Stage1Engine()
    draft = replace(forced(track), prompt=replace(PROMPT, sections=PROMPT.sections[:1]), caps=[30])
    (codes,) = sing(draft, engine)
    ids = VOCAB.ids(np.array(codes))[:-1]
    assert engine.fed[COND] == [*PROMPT.header, *PROMPT.sections[0], *ids]
    assert engine.fed[UNCOND] == [VOCAB.xcodec, *ids]


@pytest.mark.parametrize("track", [0, 1])
def test_a_frame_takes_one_step(track: int) -> None:
    engine = Stage1Engine()
    sung = sing(forced(track), engine)
    frames = sum(len(section) // 2 for section in sung)
    assert len(engine.calls) <= frames + 2 * len(sung)


def test_with_a_silent_vocal_the_model_still_ends_its_sections() -> None:
    class Eager(Stage1Engine):
        def _logits(self, ids: object) -> np.ndarray:
            logits = super()._logits(ids)  # type: ignore[arg-type]
            logits[VOCAB.eoa] = 1e6
            return logits

    sung = sing(forced(0, SILENCE, whole=False), Eager())
    assert [len(section) for section in sung] == [4, 4, 4]
    assert all(section[::2] == [464, 464] for section in sung)
    assert [len(section) for section in sing(forced(0, SILENCE), Eager())] == [60, 60, 60]


@pytest.mark.slow
@pytest.mark.parametrize("track", [0, 1])
@pytest.mark.parametrize("whole", [True, False])
def test_a_resume_at_any_draw_feeds_the_same_steps(track: int, whole: bool) -> None:
    draft = forced(track, whole=whole)
    journal, undisturbed = MemoryJournal(), Refrain()
    expected = sing(draft, undisturbed, journal)
    fed = [[(row.row, row.ids) for row in call] for call in undisturbed.calls]
    for cut in range(len(journal.codes(1)) + 1):
        partial = MemoryJournal([list(journal.codes(0)), list(journal.codes(1))[:cut]])
        engine = Refrain()
        assert sing(draft, engine, partial) == expected
        assert [[(row.row, row.ids) for row in call] for call in engine.calls] == fed


def test_draws_of_the_other_track_do_not_depend_on_how_the_given_one_is_fed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draft, slow = forced(0), Stage1Engine()
    expected = sing(draft, Stage1Engine())
    monkeypatch.setattr(stage1._Candidate, "_guess", lambda self, section, codes: None)
    assert sing(draft, slow) == expected
    assert len(slow.calls) >= 2 * 90


def test_an_end_is_never_kept_from_a_journal_of_a_whole_track() -> None:
    journal = MemoryJournal()
    sing(forced(0), Stage1Engine(), journal)
    assert END_OF_AUDIO not in [code for i in range(3) for code in journal.codes(i)]
