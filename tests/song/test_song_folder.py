"""The song folder: round trips, atomic writes, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from helpers import edit_song

from yuegguf.audio import tags
from yuegguf.errors import DamagedFile, RequestError, StorageError
from yuegguf.planning.plan import Plan
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import FinishedSection, Output, Reference, SongRequest
from yuegguf.song.folder import SongFolder, sections_of
from yuegguf.song.lookup import folder_name, new_song_path, newest_interrupted
from yuegguf.song.markers import audacity_labels
from yuegguf.song.record import Phase, SongRecord
from yuegguf.song.state import where

REQUEST = SongRequest(
    "female pop",
    "[verse]\nla\n[chorus]\nlo",
    seed=5,
    sampling=Sampling(top_p=0.9),
    reference=Reference(mix="a.wav", end=20.0),
    output=Output(formats=("flac", "mp3"), mix="vocos"),
)


PLAN = Plan(2048, 2, 1, 2, "f16", None, 2**30, 0)


def make(parent: Path) -> SongFolder:
    return SongFolder.create(new_song_path(parent, "My Song!"), SongRecord(request=REQUEST, plan=PLAN))


def test_request_survives_json() -> None:
    assert SongRequest.from_json(json.loads(json.dumps(REQUEST.to_json()))) == REQUEST


def test_folder_reopens_as_it_was(tmp_path: Path) -> None:
    folder = SongFolder.open(make(tmp_path).path)
    assert folder.path.name.startswith("my-song-")
    assert folder.request == REQUEST
    assert folder.state == "draft"
    folder.advance("refine", seconds={"draft": 1.5})
    again = SongFolder.open(folder.path)
    assert again.state == "refine"
    assert again.record.seconds == {"draft": 1.5}
    assert again.record.plan == PLAN


def test_a_song_of_before_keeps_the_sound_that_it_was_written_with(tmp_path: Path) -> None:
    """Its song.json has none of the later fields; a new song has today's defaults."""
    folder = make(tmp_path)
    stored = json.loads((folder.path / "song.json").read_text("utf-8"))["request"]
    for name in ("stem_mode", "loudness", "fade", "artist", "year", "cover"):
        del stored["output"][name]
    edit_song(folder.path, request=stored)
    output = SongFolder.open(folder.path).request.output
    assert output == Output(("flac", "mp3"), mix="vocos", stem_mode="raw", loudness=None, fade=0.0, artist="")
    assert Output().target_loudness == -14


def test_a_step_is_noted_by_the_name_that_where_gives_it(tmp_path: Path) -> None:
    folder = make(tmp_path)
    phase: Phase = where(folder)
    folder.advance(phase, seconds=dict.fromkeys(set(get_args(Phase)) - {"done"}, 1.5))
    stored = json.loads((folder.path / "song.json").read_text("utf-8"))
    assert (phase, stored["state"]) == ("draft", "draft")
    assert sorted(stored["seconds"]) == ["draft", "master", "refine", "sketch"]
    assert SongFolder.open(folder.path).record == folder.record


def test_two_songs_of_one_name_get_two_folders(tmp_path: Path) -> None:
    assert make(tmp_path).path != make(tmp_path).path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "newer yuegguf"),
        ({"format": "x"}, "damaged"),
        ({"state": "strange"}, "damaged"),
        ({"state": "sketch"}, "damaged"),
        ({"seconds": {"done": 1.0}}, "damaged"),
        ({"request": {"genre": "x"}}, "damaged"),
        ({"request": 7}, "damaged"),
    ],
)
def test_what_is_not_understood_is_refused_untouched(
    change: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    folder = make(tmp_path)
    file = folder.path / "song.json"
    edit_song(folder.path, **change)
    assert file.is_file()
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(DamagedFile, match=complaint):
        SongFolder.open(folder.path)
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


def test_truncated_song_json_is_refused(tmp_path: Path) -> None:
    file = make(tmp_path).path / "song.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(DamagedFile):
        SongFolder.open(file.parent)
    with pytest.raises(RequestError, match="not a song folder"):
        SongFolder.open(tmp_path)


def test_arrays_round_trip_and_damage_is_found(tmp_path: Path) -> None:
    folder = make(tmp_path)
    codes = np.random.default_rng(0).integers(0, 1024, (2, 8, 40)).astype(np.int16)
    folder.save_stage1([10, 30], codes[:, 0])
    folder.save_stage2(codes)
    folder.save_chunk(1, 300, codes[1])
    loaded, frames = folder.load_stage1()
    assert (loaded == codes[:, 0]).all()
    assert frames.tolist() == [10, 30]
    assert (folder.load_stage2() == codes).all()
    chunk = folder.load_chunk(1, 300, 40)
    assert chunk is not None
    assert (chunk == codes[1]).all()
    assert folder.load_chunk(0, 0, 40) is None
    with pytest.raises(DamagedFile):
        folder.load_chunk(1, 300, 41)
    file = folder.path / "stage2.npz"
    for cut in (0, 10, file.stat().st_size // 2, file.stat().st_size - 1):
        (folder.path / "stage2.npz").write_bytes(file.read_bytes()[:cut])
        with pytest.raises(DamagedFile):
            folder.load_stage2()
        folder.save_stage2(codes)


def test_codes_out_of_range_and_pickles_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path)
    np.savez(folder.path / "stage2.npz", codes=np.full((2, 8, 3), 1024))
    with pytest.raises(DamagedFile, match="outside 0-1023"):
        folder.load_stage2()
    np.savez(folder.path / "stage2.npz", codes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DamagedFile):
        folder.load_stage2()


def test_only_one_process_works_on_a_song(tmp_path: Path) -> None:
    folder, another = make(tmp_path), pytest.raises(StorageError, match="another yuegguf")
    with folder.claimed(), another, SongFolder.open(folder.path).claimed():
        raise AssertionError


def test_newest_interrupted(tmp_path: Path) -> None:
    import os

    older, newer, done = (make(tmp_path) for _ in range(3))
    done.advance("done")
    for seconds, folder in enumerate((older, newer, done)):
        os.utime(folder.path / "song.json", (1000 + seconds, 1000 + seconds))
    assert newest_interrupted(tmp_path) == newer.path
    with SongFolder.open(newer.path).claimed():  # another command goes on with it already
        assert newest_interrupted(tmp_path) == older.path
    assert newest_interrupted(tmp_path) == newer.path
    assert newest_interrupted(tmp_path / "nowhere") is None


def test_the_credit_is_the_same_in_folders_and_files(tmp_path: Path) -> None:
    assert make(tmp_path).record.credit == tags.CREDIT
    assert tags.Tags().comment.startswith(tags.CREDIT)


def test_section_times_and_markers() -> None:
    sections = sections_of(["verse", "chorus"], [100, 25], [True, False], {"2": "it is short"})
    assert sections == [
        FinishedSection("verse", 0.0, 2.0, True),
        FinishedSection("chorus", 2.0, 0.5, False, "it is short"),
    ]
    assert audacity_labels(sections) == "0.000000\t2.000000\tverse\n2.000000\t2.500000\tchorus\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [("A b/c", "a-b-c"), ("../../etc", "etc"), ("", "song"), ("月亮 pop", "月亮-pop"), ("x" * 300, "x" * 48)],
)
def test_slug_is_a_safe_name(text: str, name: str) -> None:
    assert folder_name(text) == name
