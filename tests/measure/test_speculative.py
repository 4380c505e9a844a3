"""The benchmark of speculative decoding counts the steps that stage 1 really makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fakes import MemoryJournal
from shared_data import shared_path
from tasks import LONG, VOCAB, Refrain

from benchmarks.speculative import logged_songs, project_sections, saving
from yuegguf.lm.vocab import CODEBOOK_SIZE
from yuegguf.stages import stage1
from yuegguf.stages.lookahead import MIN_CONFIDENCE


def test_saved_steps_are_those_that_stage_1_does_not_make() -> None:
    engine, journal = Refrain(), MemoryJournal()
    stage1.generate_codes(LONG, engine, VOCAB, journal)
    sections = [[code if code >= 0 else CODEBOOK_SIZE for code in journal.codes(n)] for n in range(3)]
    found = saving(sections, MIN_CONFIDENCE)
    steps = sum(call[0].n_logits > 0 for call in engine.calls)
    assert found.samples == sum(map(len, sections))
    assert found.samples - found.accepted == steps
    assert found.drafts == sum(call[0].n_logits == 2 for call in engine.calls)
    assert found.accepted > 20


def test_an_archive_is_read_by_song_and_section(tmp_path: Path) -> None:
    ids = {"b__new_1": [45334, 32002], "a__new_10": [45336], "a__new_2": [45335], "a__prompt_1": [1]}
    np.savez(tmp_path / "log.npz", **{name: np.array(values, np.int32) for name, values in ids.items()})
    songs = logged_songs(tmp_path / "log.npz")
    assert songs == {"b": [[0, CODEBOOK_SIZE]], "a": [[1], [2]]}


@pytest.mark.slow
def test_the_figures_of_the_benchmarks_are_those_of_the_real_songs() -> None:
    songs = logged_songs(shared_path("data/real-upstream-songs.npz"))
    project = project_sections(shared_path("data/yue-ui-example-song.json"))
    shares = [saving(songs[name], MIN_CONFIDENCE).saved for name in ("text", "reference")]
    assert [round(share, 3) for share in shares] == [0.193, 0.258]
    assert round(saving(project, MIN_CONFIDENCE).saved, 3) == 0.145
