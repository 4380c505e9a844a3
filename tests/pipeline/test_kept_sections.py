"""What a song keeps of the one that it goes on from: lengths, faults, ends of sections, the reference."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import FAST, TEXT, Capture, Run, cli, ended

from yuegguf.errors import DamagedFile
from yuegguf.files.arrays import load_arrays, save_arrays
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import takes
from yuegguf.pipeline.extend import ExtendRequest
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.song.folder import SongFolder
from yuegguf.song.kept_part import read_kept_part
from yuegguf.song.state import finished_sections

VERSES = "[verse]\nla la\n[chorus]\nlo lo lo\n[bridge]\nli\n[outro]\nlu\n"


def begun(song: SongFolder, place: Path, wanted: ExtendRequest) -> SongFolder:
    """A song that goes on from another, before anything of it is generated."""
    job = SongJob(song.song, nano_models(), place, None, ComputeOptions(threads=1))
    (made,) = takes.start_extension(song, wanted, job)
    return made


@pytest.fixture
def song(sung: Run, tmp_path: Path) -> SongFolder:
    """A song of two of four sections, each cut off at its limit of a second."""
    made = sung("-g", "pop", "--lyrics", VERSES, "--sections", 2, *FAST)
    return SongFolder.open(shutil.copytree(made, tmp_path / "song"))


def test_the_context_holds_sections_that_are_longer_than_the_new_limit(sung: Run, tmp_path: Path) -> None:
    old = SongFolder.open(sung("-g", "pop", "--lyrics", VERSES, *FAST[2:], "--segment-seconds", 20))
    kept = old.load_section_frames().tolist()
    assert 2 * sum(kept) > 2048
    more = f"{VERSES}[outro]\nle\n"
    for wanted in (
        ExtendRequest(7, lyrics=more, segment_seconds=1),
        ExtendRequest(7, lyrics=more.replace("[verse]", "#length 1\n[verse]"), segment_seconds=1),
    ):
        made = begun(old, tmp_path / "songs", wanted)
        assert made.frame_caps() == [*kept, 50]
        assert made.record.plan is not None
        assert made.record.plan.n_ctx >= 2 * sum(made.frame_caps())


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (ExtendRequest(7), {"1", "2"}),
        (ExtendRequest(7, retake=1, keep_after=True), {"2"}),
        (ExtendRequest(7, retake=2), {"1"}),
        (ExtendRequest(7, rewind=0.4), {"1"}),
        (ExtendRequest(7, rewind=0.4, same_section=True), {"1"}),
    ],
)
def test_faults_of_whole_sections_that_are_kept_stay_known(
    song: SongFolder, tmp_path: Path, capsys: Capture, wanted: ExtendRequest, kept: set[str]
) -> None:
    song.advance(song.state, faults={"1": "the voice is silent", "2": "it hums"})
    made = begun(SongFolder.open(song.path), tmp_path / "songs", wanted)
    assert made.record.faults.keys() == kept
    cli(capsys, "resume", made.path, "--threads", 1)
    assert SongFolder.open(made.path).record.faults.keys() >= kept


def test_a_kept_section_ended_as_it_did(song: SongFolder, tmp_path: Path, capsys: Capture) -> None:
    before = finished_sections(song)
    assert not any(each.complete for each in before)
    options = ("--segment-seconds", 8, "--seed", 5, "--threads", 1, "-o", tmp_path / "songs", "--json")
    longer = ended(cli(capsys, "extend", song.path, *options)).json["sections"]
    assert [(each["complete"], each["lost_lines"]) for each in longer[:2]] == [
        (each.complete, each.lost_lines) for each in before
    ]
    cut = ended(cli(capsys, "extend", song.path, "--rewind", 0.4, *options)).json["sections"]
    assert [each["complete"] for each in cut[:2]] == [False, False]


def test_kept_parts_of_earlier_versions_and_damaged_ones(song: SongFolder, tmp_path: Path) -> None:
    made = begun(song, tmp_path / "songs", ExtendRequest(7))
    file = made.path / "base.npz"
    arrays = load_arrays(file, ("given", "frames", "before", "after_frames", "after"))
    save_arrays(file, arrays)
    part = read_kept_part(made.path)
    assert part is not None
    assert part.completeness([True, False, True]) == [True, False, True]
    save_arrays(file, {**arrays, "complete": np.ones(9, np.int64)})
    with pytest.raises(DamagedFile, match="does not say which sections are complete"):
        read_kept_part(made.path)


def test_a_song_goes_on_without_its_recording_and_its_voice(
    tmp_path: Path, recordings: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    recording = Path(shutil.copy(recordings / "a.wav", tmp_path / "a.wav"))
    ended(cli(capsys, "voice", "save", "anna", "--ref", recording, "--ref-end", 1, "--threads", 1))
    songs = [
        ended(cli(capsys, "run", *TEXT, *FAST, *options, "-o", tmp_path / "songs", "--json")).folder
        for options in (("--voice", "anna"), ("--ref", recording, "--ref-end", 1))
    ]
    recording.unlink()
    ended(cli(capsys, "voice", "rm", "anna"))
    for song in songs:
        options = ("--retake", 1, "-n", 2, "--threads", 1, "-o", tmp_path / "more", "--json")
        for take in ended(cli(capsys, "extend", song, *options)).json["takes"]:
            kept = (Path(take["folder"]) / "reference.npz").read_bytes()
            assert kept == (song / "reference.npz").read_bytes()
