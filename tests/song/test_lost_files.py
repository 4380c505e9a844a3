"""Files that a song folder has lost: made again, or refused where that would give another song."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import Capture, cli, new_song
from song_examples import SOUND, all_content, finished_song

from yuegguf.errors import DamagedFile
from yuegguf.lm.vocab import interleave
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.song.folder import SongFolder
from yuegguf.song.kept_part import KeptPart, write_kept_part
from yuegguf.song.record import ContinuedFrom
from yuegguf.song.token_log import TokenLog
from yuegguf.stages.stage1_task import END_OF_AUDIO, KeptPrefix

FRAMES = 6
"""Of two sections that are given: four frames of a whole one, two of a begun one."""


@pytest.fixture
def longer(tmp_path: Path) -> SongFolder:
    """A song that goes on from another, as it is when its drawing begins."""
    folder = new_song(tmp_path, origin=ContinuedFrom(folder="pop-123456", seed=4))
    before = np.random.default_rng(1).integers(0, 1024, (2, 8, FRAMES)).astype(np.int16)
    write_kept_part(folder.path, KeptPart(KeptPrefix(1, 4), (4, 2), before, (), before[:, :, :0]))
    codes = interleave(*before[:, 0]).tolist()
    log = TokenLog.open(folder.path / "tokens.log")
    for section, drawn in enumerate([[*codes[:8], END_OF_AUDIO], codes[8:]]):
        for code in drawn:
            log.append(section, code)
    log.close()
    return folder


def test_a_song_that_goes_on_has_its_given_part_before_more_is_drawn(longer: SongFolder) -> None:
    log = longer.token_log()
    log.append(1, 5)
    log.close()
    log = longer.token_log()
    assert log.codes(1)[-1] == 5
    log.close()


def test_a_song_that_has_lost_what_it_goes_on_from_is_refused(longer: SongFolder) -> None:
    (longer.path / "base.npz").unlink()
    before = all_content(longer.path)
    for read in (longer.token_log, longer.load_kept_part):
        with pytest.raises(
            DamagedFile, match=r"lost the part of the song that it continues; restore its base\.npz"
        ):
            read()
    assert all_content(longer.path) == before


@pytest.mark.parametrize("left", [None, 0, 60, 120])
def test_a_log_without_the_given_part_is_refused_and_stays(left: int | None, longer: SongFolder) -> None:
    log = longer.path / "tokens.log"
    whole = log.read_bytes()
    log.unlink()
    if left is not None:
        assert left < len(whole)
        log.write_bytes(whole[:left])
    before = all_content(longer.path)
    with pytest.raises(DamagedFile, match="does not begin with the part that the song continues; restore it"):
        longer.token_log()
    assert all_content(longer.path) == before


def test_a_log_of_other_codes_is_refused(longer: SongFolder) -> None:
    (longer.path / "tokens.log").unlink()
    log = TokenLog.open(longer.path / "tokens.log")
    for code in [*range(8), END_OF_AUDIO]:
        log.append(0, code)
    for code in range(8, 12):
        log.append(1, code)
    log.close()
    with pytest.raises(DamagedFile, match="does not begin with the part that the song continues"):
        longer.token_log()


@pytest.mark.parametrize("lost", ["lyrics.lrc", "markers.txt"])
@pytest.mark.parametrize("kind", ["song", "draft"])
def test_the_text_files_of_what_is_done_are_written_again(
    lost: str, kind: str, tmp_path: Path, capsys: Capture
) -> None:
    song = finished_song(tmp_path)
    if kind == "draft":
        (song / "stage2.npz").unlink()
        (song / "draft.wav").write_bytes(SOUND)
        draft = SongFolder.open(song)
        draft.advance("refine", draft_files=("draft.wav",), early=PreviewOptions("mix"))
    whole = all_content(song)
    (song / lost).unlink()
    assert cli(capsys, "resume", song).code == 0
    assert all_content(song) == whole
