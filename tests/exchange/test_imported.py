"""What another tool's song becomes: sections that fit, and a folder whose log, codes and state agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yuegguf.errors import RequestError, StorageError
from yuegguf.exchange.imported import ImportedSong, ImportFacts, Origin, assemble, create_folder
from yuegguf.request.lyrics import parse_lyrics
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import Output
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import new_song_path
from yuegguf.song.record import Imported, SongRecord
from yuegguf.stages.stage1_task import END_OF_AUDIO

LYRICS = "[verse]\nla\n[chorus]\nlo\n[outro]\nli\n"
SOURCE = Origin("YuE", ("a_vtrack.npy", "a_itrack.npy"), genre="pop")


def codes(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 1024, (2, 8, frames)).astype(np.int16)


def fitted(frames: int, source: Origin = SOURCE, known: ImportFacts | None = None) -> ImportedSong:
    whole = codes(frames)
    return assemble(whole[:, 0], whole, source, known or ImportFacts())


# Sections


def test_the_users_values_go_before_those_of_the_source() -> None:
    source = replace(SOURCE, lyrics=LYRICS, frames=(60, 40), segment_seconds=12.0, seed=4)
    found = fitted(100, source)
    assert found.frames == (60, 40)
    assert (found.request.genre, found.request.lyrics, found.request.sections) == ("pop", LYRICS, "2")
    assert (found.request.segment_seconds, found.request.seed) == (12.0, 4)
    assert found.notices == ()
    output = Output(formats=("flac",))
    found = fitted(100, source, ImportFacts("rock", "[bridge]\nhm\n[outro]\nho", (0.5,), output))
    assert found.frames == (25, 75)
    assert (found.request.genre, found.request.sections) == ("rock", "all")
    assert found.request.lyrics == "[bridge]\nhm\n[outro]\nho"
    assert found.request.output == output


def test_without_boundaries_all_is_one_section() -> None:
    found = fitted(100)
    assert (found.frames, found.request.sections) == ((100,), "all")
    assert parse_lyrics(found.request.lyrics).sections[0].text == "[verse]\n\n\n"
    assert found.notices == ("no lyrics are known: the song is kept without words; pass them with -l",)
    found = fitted(100, known=ImportFacts(lyrics=LYRICS))
    assert (found.frames, found.request.sections, found.request.lyrics) == ((100,), "1", LYRICS)
    assert found.notices == ("all of it is kept as 1 of 3 sections; say where they begin with --at",)


def test_a_song_longer_than_a_section_may_be_is_cut_evenly() -> None:
    found = fitted(15_001, known=ImportFacts(lyrics="[verse]\nla"))
    assert found.frames == (5000, 5000, 5001)
    assert [s.label for s in prepare(found.request).sections] == ["verse"] * 3
    assert found.request.segment_seconds == 101
    assert len(found.notices) == 2
    assert fitted(15_000).frames == (7500, 7500)
    assert prepare(fitted(7_500).request).caps == (7500,)


@pytest.mark.parametrize(
    ("lyrics", "frames", "caps"),
    [
        ("[verse]\nla\n[chorus]\nlo", (1500, 1499), [1500, 1500]),  # cut at the limit, and ended by itself
        ("[verse]\nla\n[chorus]\nlo", (1501, 1499), [1550, 1550]),
        ("#length 10\n[verse]\nla\n[chorus]\nlo", (500, 20), [500, 1500]),
        ("#length 10\n[verse]\nla\n[chorus]\nlo", (501, 20), [550, 1500]),
    ],
)
def test_limits_are_raised_to_what_is_there(lyrics: str, frames: tuple[int, ...], caps: list[int]) -> None:
    found = fitted(sum(frames), replace(SOURCE, lyrics=lyrics, frames=frames))
    assert list(prepare(found.request).caps) == caps
    assert all(n <= cap for n, cap in zip(frames, caps, strict=True))


@pytest.mark.parametrize(
    "starts", [(0.0,), (2.0,), (1.0, 1.0), (1.5, 1.0), (float("nan"),), (1e308,), (0.001,)]
)
def test_starts_out_of_order_are_refused(starts: tuple[float, ...]) -> None:
    with pytest.raises(RequestError, match="not in order within the song; it is 2 s long"):
        fitted(100, known=ImportFacts(starts=starts))


def test_what_is_missing_is_asked_for() -> None:
    for source, known, sentence in (
        (
            replace(SOURCE, genre=" "),
            ImportFacts(),
            "no genre tags are known of a_vtrack.npy and a_itrack.npy; pass",
        ),
        (SOURCE, ImportFacts(lyrics="…"), "the lyrics have no words and no section label"),
        (
            SOURCE,
            ImportFacts(lyrics="[verse]", starts=(1,)),
            "2 sections are there, and the lyrics have 1; write",
        ),
        (
            replace(SOURCE, frames=(7501,)),
            ImportFacts(),
            r"a section is 150\.02 s long, at most 150 s are allowed; ",
        ),
    ):
        frames = sum(source.frames) or 100
        with pytest.raises(RequestError, match=sentence):
            fitted(frames, source, known)
    with pytest.raises(
        RequestError, match=r"there are no frames of music in a_vtrack\.npy and a_itrack\.npy"
    ):
        fitted(0)


# The folder


def adopted(parent: Path, material: ImportedSong) -> SongFolder:
    return create_folder(material, new_song_path(parent, "My Song"), SongRecord(request=material.request))


def test_the_folder_holds_draws_codes_and_origin(tmp_path: Path) -> None:
    source = replace(SOURCE, lyrics=LYRICS, frames=(40, 0, 60), segment_seconds=1.2, start=2.5)
    material = fitted(100, source)
    folder = adopted(tmp_path, material)
    assert [path.name for path in tmp_path.iterdir()] == [folder.path.name]
    assert folder.path.name.startswith("my-song-")
    assert (folder.state, folder.request) == ("master", material.request)
    origin = Imported(tool="YuE", files=("a_vtrack.npy", "a_itrack.npy"), start=2.5)
    assert folder.record.imported == origin
    codes0, frames = folder.load_stage1()
    assert (codes0 == material.codes0).all()
    assert frames.tolist() == [40, 0, 60]
    assert (folder.load_stage2() == material.codes).all()
    log = folder.token_log()
    first, second, third = (list(log.codes(section)) for section in range(3))
    log.close()
    assert first == [*material.codes0[:, :40].T.ravel().tolist(), END_OF_AUDIO]
    assert second == [END_OF_AUDIO]
    assert third == material.codes0[:, 40:].T.ravel().tolist()  # 60 frames are its limit: it was cut there


def test_stage_1_alone_is_to_be_refined(tmp_path: Path) -> None:
    whole = codes(700)
    folder = adopted(tmp_path, assemble(whole[:, 0], whole[:, :, :0], SOURCE, ImportFacts()))
    assert folder.state == "refine"
    assert not (folder.path / "stage2.npz").exists()
    assert not (folder.path / "chunks").exists()


def test_chunks_that_are_whole_are_not_refined_again(tmp_path: Path) -> None:
    """Of 700 frames 640 are refined; one chunk lacks a code, another has an outline that is not stage 1's."""
    whole = codes(700)
    refined = whole[:, :, :640].copy()
    refined[0, 3, 10] = -1
    refined[1, 0, 350] = (refined[1, 0, 350] + 1) % 1024
    folder = adopted(tmp_path, assemble(whole[:, 0], refined, SOURCE, ImportFacts()))
    assert folder.state == "refine"
    kept = {(t, s): folder.load_chunk(t, s, n) for t in (0, 1) for s, n in ((0, 300), (300, 300), (600, 100))}
    there = {place: found for place, found in kept.items() if found is not None}
    assert list(there) == [(0, 300), (1, 0)]
    assert (there[0, 300] == whole[0, :, 300:600]).all()
    assert (there[1, 0] == whole[1, :, :300]).all()


def test_a_folder_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SongFolder, "save_stage1", full)
    with pytest.raises(StorageError, match="the disk is full"):
        adopted(tmp_path / "songs", fitted(100))
    assert list((tmp_path / "songs").iterdir()) == []
