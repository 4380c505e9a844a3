"""Arrays of a song folder that do not fit its request, or each other: refused before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import new_song
from song_examples import codes_of, finished_song

from yuegguf.codec.protocol import SONG_HOP
from yuegguf.errors import DamagedFile, RequestError
from yuegguf.exchange.convert import npy_files
from yuegguf.exchange.decode_files import check_decoding
from yuegguf.pipeline import takes
from yuegguf.pipeline.phases import load_draft
from yuegguf.request.song_request import GuideTrack, Output, Reference, SongRequest
from yuegguf.song import voices
from yuegguf.song.conditioning import same_voice
from yuegguf.song.folder import SongFolder
from yuegguf.song.kept_part import KeptPart, read_kept_part, write_kept_part
from yuegguf.stages.stage1_task import KeptPrefix

REQUEST = SongRequest("pop", "[verse]\nla la\n[chorus]\nlo lo", segment_seconds=1)
FRAMES = 100
"""Most frames of such a song."""
MIX = Reference(mix="/a.wav", start=0.51, end=2)
DUAL = Reference(vocal="/a.wav", instrumental="/b.wav", start=0.51, end=2)
VOICE = Reference(voice="anna", start=0.51, end=2)
"""References of 74 frames."""


def with_reference(parent: Path, reference: Reference, count: int) -> SongFolder:
    """A song with so many codes of its reference."""
    song = new_song(parent, replace(REQUEST, reference=reference))
    song.save_reference(np.zeros(count, np.int16))
    return song


@pytest.mark.parametrize(
    ("reference", "fitting", "others"),
    [
        # earlier versions kept the window that was asked for where the recording ended before it
        (MIX, (74, 73, 1), (0, 75, 148)),
        (DUAL, (148, 146, 2), (0, 1, 147, 150)),
        (VOICE, (74, 148), (0, 1, 73, 75, 147, 149)),
    ],
)
def test_a_reference_has_the_codes_of_its_window(
    reference: Reference, fitting: tuple[int, ...], others: tuple[int, ...], tmp_path: Path
) -> None:
    for count in fitting:
        codes = with_reference(tmp_path, reference, count).load_reference()
        assert codes is not None
        assert len(codes) == count
    for count in others:
        with pytest.raises(DamagedFile, match=r"codes, not those of the window 0\.51-2 s; delete it"):
            with_reference(tmp_path, reference, count).load_reference()


def pack(song: SongFolder, name: str, **arrays: object) -> None:
    """Write an .npz of a song as somebody else may have."""
    np.savez_compressed(song.path / name, **arrays)


def test_arrays_are_not_unpacked_that_are_far_longer_than_can_be(tmp_path: Path) -> None:
    many = np.zeros(1 << 18, np.uint8)
    song = new_song(tmp_path, replace(REQUEST, reference=MIX, track=GuideTrack("vocal", "/a.wav")))
    pack(song, "reference.npz", codes=many)
    pack(song, "track.npz", codes=np.zeros((8, 1 << 15), np.uint8), wave=many)
    pack(song, "stage1.npz", codes=np.zeros((2, 1 << 15), np.uint8), frames=[50, 50])
    short = np.zeros((2, 8, 0), np.int16)
    none = np.zeros(0, np.int64)
    counts = {"given": [0, 0], "frames": none, "after_frames": none}
    for read in (song.load_reference, song.load_guide_track, song.load_stage1):
        with pytest.raises(DamagedFile, match="announces"):
            read()
    pack(song, "track.npz", codes=np.zeros((8, FRAMES), np.int16), wave=np.zeros(1 << 18))
    pack(song, "stage1.npz", codes=short[:, 0], frames=np.zeros(1 << 22, np.uint8))
    pack(song, "base.npz", **counts, before=short, after=np.zeros((2, 8, 1 << 15), np.uint8))
    for read in (song.load_guide_track, song.load_section_frames, lambda: read_kept_part(song.path)):
        with pytest.raises(DamagedFile, match="announces"):
            read()
    pack(song, "stage1.npz", codes=short[:, 0], frames=[1 << 24, 1])
    with pytest.raises(DamagedFile, match="do not add up"):
        song.load_section_frames()
    pack(song, "stage1.npz", codes=short[:, 0], frames=np.zeros(1 << 17, np.uint8))
    pack(song, "base.npz", **{**counts, "frames": np.zeros(1 << 17, np.uint8)}, before=short, after=short)
    for read in (song.load_stage1, lambda: read_kept_part(song.path)):
        with pytest.raises(DamagedFile, match="do not add up"):
            read()


def test_what_the_request_does_not_name_is_not_read(tmp_path: Path) -> None:
    song = new_song(tmp_path, REQUEST)
    for name in ("reference.npz", "track.npz"):
        (song.path / name).write_bytes(b"rubbish")
    assert song.load_reference() is None
    assert song.load_guide_track() is None


def guided(parent: Path, frames: int, wave: np.ndarray | None = None) -> SongFolder:
    """A song with so many frames of a guide track, and its recording."""
    file = None if wave is None else "/a.wav"
    song = new_song(parent, replace(REQUEST, track=GuideTrack("instrumental", file)))
    song.save_guide_track(np.zeros((8, frames), np.int16), wave)
    return song


def test_a_guide_track_is_as_long_as_the_song_may_become(tmp_path: Path) -> None:
    assert guided(tmp_path, FRAMES).load_guide_track() is not None
    for frames in (0, 20, FRAMES - 1):
        song = guided(tmp_path, frames)
        with pytest.raises(DamagedFile, match=f"track.npz has {frames} frames, of {FRAMES} of the song"):
            song.load_guide_track()
        song.save_stage1([frames, 0], np.zeros((2, frames), np.int16))
        song.advance("refine")
        assert song.load_guide_track() is not None
        song.save_stage1([frames, 1], np.zeros((2, frames + 1), np.int16))
        with pytest.raises(DamagedFile, match=f"of {frames + 1} of the song"):
            song.load_guide_track()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda wave: wave[:5000],
        lambda wave: np.append(wave, np.zeros(1, np.float32)),
        lambda wave: wave.astype(np.float64),
        lambda wave: wave[None],
        lambda wave: np.append(wave[1:], np.float32(np.nan)),
        lambda wave: np.append(wave[1:], np.float32(-np.inf)),
        lambda wave: np.append(wave[1:], np.float32(3e38)),
    ],
)
def test_a_recording_is_as_long_as_its_codes_and_no_louder_than_can_be(
    spoil: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    wave = np.full(SONG_HOP * FRAMES, 2.0**31, np.float32)  # whole numbers of 32 bits stored as floats
    kept = guided(tmp_path, FRAMES, wave).load_guide_track()
    assert kept is not None
    assert kept[1] is not None
    with pytest.raises(DamagedFile, match="does not hold a recording of 100 frames; restore it"):
        guided(tmp_path, FRAMES, spoil(wave)).load_guide_track()


def test_a_song_of_more_sections_than_its_lyrics_is_not_extended(tmp_path: Path) -> None:
    song = SongFolder.open(finished_song(tmp_path))
    assert takes.drafted_song(song).frames == [50, 50]
    song.save_stage1([50, 30, 20], codes_of()[:, 0])
    with pytest.raises(DamagedFile, match=r"has 3 sections, and the song's lyrics have 2; restore it"):
        takes.drafted_song(song)


@pytest.mark.parametrize(
    "read", [takes.drafted_song, npy_files, lambda song: check_decoding([song.path], Output())]
)
@pytest.mark.parametrize("codes", [codes_of(99), codes_of()[::-1]])
def test_refined_codes_of_another_draft_are_refused(
    codes: np.ndarray, read: Callable[[SongFolder], object], tmp_path: Path
) -> None:
    song = SongFolder.open(finished_song(tmp_path))
    read(song)
    song.save_stage2(codes)
    with pytest.raises(DamagedFile, match=r"does not belong to stage1\.npz"):
        read(song)


def keep(song: SongFolder, before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
    """Write a base.npz of so many frames around one of its sections; returns all of its codes [2, 8, T]."""
    first, last = (codes_of()[:, :, : sum(frames)] for frames in (before, after))
    write_kept_part(song.path, KeptPart(KeptPrefix(len(before)), before, first, after, last))
    return np.concatenate([first, last], axis=2)


def test_a_song_has_no_fewer_sections_than_it_keeps(tmp_path: Path) -> None:
    song = new_song(tmp_path, REQUEST)
    keep(song, (20,), ())
    assert song.frame_caps() == [20, 50]
    for before, after in (((1,) * 6, ()), ((20,), (1,) * 5), ((), (1, 1, 1))):
        keep(song, before, after)
        count = len(before) + len(after)
        with pytest.raises(DamagedFile, match=rf"base\.npz keeps {count} sections of a song that has 2"):
            song.frame_caps()


def test_a_draft_begins_and_ends_with_what_it_keeps(tmp_path: Path) -> None:
    song = new_song(tmp_path, REQUEST)
    kept = keep(song, (20,), (7,))[:, 0]
    for codes in (kept, np.insert(kept, 20, 5, axis=1)):
        song.save_stage1([codes.shape[1], 0], codes)
        assert load_draft(song).span == slice(20, codes.shape[1] - 7)
    for codes in (kept[:, 1:], kept[:, :-1], kept[:, :5], kept[:, :0], kept[::-1]):
        song.save_stage1([codes.shape[1], 0], codes)
        with pytest.raises(DamagedFile, match=r"does not begin and end with the part .*; delete stage1\.npz"):
            load_draft(song)


def test_a_lost_reference_is_not_replaced_by_a_voice_of_another_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path))
    for codes in (74, 80):
        voice = voices.Voice("anna", np.zeros(codes, np.int16), False, ("a.wav",), 0.51, "c", "2026-01-02")
        voices.save_voice(voice, replace=True)
        started = replace(VOICE, start=voice.start, end=voice.end)
        assert len(same_voice("anna", started)) == started.frames == codes
    with pytest.raises(RequestError, match="was saved anew after the song was started; restore"):
        same_voice("anna", VOICE)
