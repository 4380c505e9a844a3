"""The benchmark of speculative decoding counts the steps that stage 1 really makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import MemoryJournal
from shared_data import shared_path
from tasks import LONG, VOCAB, Refrain

from benchmarks.speculative import ChainDrafter, Guesses, logged_songs, project_sections
from yuegguf.lm.vocab import CODEBOOK_SIZE
from yuegguf.stages import stage1
from yuegguf.stages.lookahead import MIN_CONFIDENCE


def test_saved_steps_are_those_that_stage_1_does_not_make() -> None:
    engine, journal = Refrain(), MemoryJournal()
    stage1.generate_codes(LONG, engine, VOCAB, journal)
    sections = [[code if code >= 0 else CODEBOOK_SIZE for code in journal.codes(n)] for n in range(3)]
    found = Guesses(sections).saving(MIN_CONFIDENCE)
    steps = sum(call[0].n_logits > 0 for call in engine.calls)
    assert found.samples == sum(map(len, sections))
    assert found.samples - found.accepted == steps
    assert found.steps[1] == sum(call[0].n_logits == 2 for call in engine.calls)
    assert found.accepted > 20


def test_a_chain_goes_on_from_its_own_codes_and_is_accepted_as_far_as_the_song_has_it() -> None:
    drafter = ChainDrafter()
    for code in (1, 50, 2, 60, 1, 50, 2, 60):
        drafter.update(code)
    chain = drafter.chain(3)
    assert [code for code, _ in chain] == [1, 50, 2]
    assert [share for _, share in chain] == [1 / 2, 1 / 4, 1 / 8]  # each was seen once, and one is unseen
    for code, _ in chain:
        assert drafter.predict() == code
        drafter.update(code)
    guesses = Guesses([[1, 50, 2, 60, 1, 50, 2, 60, 1, 50, 7, 70, CODEBOOK_SIZE]])
    none = guesses.saving(1.0)
    assert (none.steps, none.saved, none.ids) == ((13, 0), 0.0, 1.0)
    two = guesses.saving(0.1, 0.1)
    assert two.steps == (7, 1, 2)  # both; the first of two; none of one
    assert (two.accepted, two.drafted, two.ids) == (3, 3 / 13, 1.5)
    assert two.net(0.5, 0.75) == pytest.approx((3 - 0.5 - 2 * 0.75) / 13)
    assert guesses.saving(0.1, 1.0).steps == (*guesses.saving(0.1).steps, 0)


def test_nothing_is_drafted_at_a_limit() -> None:
    codes = [1, 50] * 4
    ended, cut = (Guesses([each]).saving(0.0, 0.0, 0.0) for each in ([*codes, CODEBOOK_SIZE], codes))
    assert sum(drafts * count for drafts, count in enumerate(cut.steps)) < sum(
        drafts * count for drafts, count in enumerate(ended.steps)
    )


def test_an_archive_is_read_by_song_and_section(tmp_path: Path) -> None:
    ids = {"b__new_1": [45334, 32002], "a__new_10": [45336], "a__new_2": [45335], "a__prompt_1": [1]}
    np.savez(tmp_path / "log.npz", **{name: np.array(values, np.int32) for name, values in ids.items()})
    songs = logged_songs(tmp_path / "log.npz")
    assert songs == {"b": [[0, CODEBOOK_SIZE]], "a": [[1], [2]]}


@pytest.mark.slow
def test_the_figures_of_the_benchmarks_are_those_of_the_real_songs() -> None:
    songs = logged_songs(shared_path("data/real-upstream-songs.npz"))
    project = project_sections(shared_path("data/yue-ui-example-song.json"))
    shares = [Guesses(each).saving(MIN_CONFIDENCE).saved for each in (*songs.values(), project)]
    assert list(songs) == ["text", "reference"]
    assert [round(share, 3) for share in shares] == [0.193, 0.258, 0.145]
