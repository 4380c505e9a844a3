"""Fault detection: every fault is detected at its documented frame, and music has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import shared_path
from helpers import FAST

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.pipeline.engines import open_codec
from yuegguf.song.folder import SongFolder
from yuegguf.song.recordings import silence_codes
from yuegguf.stages.faults import Fault, FaultDetector, loop_period

LYRICS = "[verse]\nGolden river\n[chorus]\nRemember the night\n[outro]\nMoon over the silver sea\n"
SONG = ("-g", "warm folk female", "--lyrics", LYRICS, *FAST[2:], "--segment-seconds", 8, "--draft")
NANO = Path(__file__).resolve().parents[2] / "yuegguf" / "data" / "nano"
SILENCE = 464
"""Code of silence of the published codec, as in the real song."""
DETECTOR = FaultDetector(SILENCE)
EVERY = 50


def noise(frames: int, seed: int = 0) -> np.ndarray:
    """Codes [2, frames] without any order, and without silence."""
    return np.random.default_rng(seed).integers(0, 400, (2, frames))


def flat(tracks: np.ndarray) -> np.ndarray:
    """[2, T] → V0 I0 V1 I1 …"""
    return tracks.T.ravel()


def first_fault(
    tracks: np.ndarray, words: bool = True, detector: FaultDetector = DETECTOR, every: int = 1
) -> Fault | None:
    """The first fault of a section that is checked every `every` frames."""
    codes = flat(tracks)
    for frames in range(every, tracks.shape[1] + 1, every):
        if found := detector.check(codes[: 2 * frames], words):
            return found
    return None


def test_a_silent_voice_is_detected_after_twelve_seconds_or_at_the_limit() -> None:
    tracks = noise(700)
    tracks[0, :] = SILENCE
    tracks[0, ::10] = noise(70, 1)[0]  # a real silent vocal is not all one code
    assert first_fault(tracks) == Fault(
        "silent voice", "the voice is silent for 12 s although the section has words", 600
    )
    assert first_fault(tracks, words=False) is None
    codes = flat(tracks[:, :400])
    assert DETECTOR.check(codes, True) is None
    for over in (DETECTOR.check(codes, True, limit=400), DETECTOR.check(codes, True, ended=True)):
        assert over
        assert (over.kind, over.frames) == ("silent voice", 400)


def test_a_voice_that_comes_late_is_no_fault() -> None:
    tracks = noise(1000)
    tracks[0, :400] = SILENCE  # eight seconds of opening
    assert first_fault(tracks) is None


def test_dead_air_is_detected_after_six_seconds() -> None:
    for words in (True, False):
        tracks = noise(600)
        tracks[:, 300:] = SILENCE
        found = first_fault(tracks, words)
        assert found
        assert found.kind == "dead air"
        assert found.frames - 300 in range(285, 301)  # a share of 0.95 is enough
        assert found.sentence == "both tracks are silent for 6 s"


@pytest.mark.parametrize("period", [7, 50, 120, 250])
def test_a_voice_that_loops_is_detected_six_seconds_after_its_first_round(period: int) -> None:
    tracks = noise(900)
    for frame in range(200 + period, 900):
        tracks[0, frame] = tracks[0, frame - period]
    found = first_fault(tracks)
    assert found
    assert found.kind == "loop"
    assert 200 + period + 240 <= found.frames <= 200 + period + 301  # four fifths of the window are enough
    assert found.sentence == f"the voice repeats the same {period / FRAME_RATE:.2g} s"
    assert first_fault(tracks, words=False) is None
    late = first_fault(tracks, every=EVERY)
    assert late
    assert late.frames < found.frames + EVERY


def test_a_backing_may_loop_and_a_voice_may_hold_a_note_or_repeat_a_line() -> None:
    tracks = noise(900)
    tracks[1] = np.tile(tracks[1, :8], 113)[:900]
    assert first_fault(tracks) is None
    held = noise(900, 1)
    held[0] = np.repeat(held[0, :45], 20)  # notes of 0.4 s on one code each
    assert first_fault(held) is None
    lines = noise(900, 2)
    lines[0, 450:600] = lines[0, 300:450]
    assert first_fault(lines) is None


@pytest.mark.parametrize(("row", "codes"), [(0, [5]), (0, [5, 6]), (0, [5, 6, 7]), (1, [9])])
def test_a_track_that_is_stuck_is_detected_after_six_seconds(row: int, codes: list[int]) -> None:
    tracks = noise(800)
    tracks[row, 300:] = np.resize(codes, 500)
    found = first_fault(tracks)
    assert found
    assert found.kind in ("collapse", "loop")  # two codes in turn are both
    assert 530 <= found.frames <= 603
    assert found.kind == "loop" or found.sentence == (
        f"the {('voice', 'backing')[row]} is stuck on one sound for 6 s"
    )
    if row == 0:
        assert first_fault(tracks, words=False) is None


def test_a_section_with_words_that_ends_early_is_short_but_not_at_its_limit() -> None:
    codes = flat(noise(120)).tolist()
    found = DETECTOR.check(codes, True, ended=True)
    assert found == Fault("short", "the section ends after 2.4 s although it has words", 120)
    assert DETECTOR.check([], True, ended=True) is not None
    assert DETECTOR.check(codes, True) is None
    assert DETECTOR.check(codes, False, ended=True) is None
    assert DETECTOR.check(codes, True, ended=True, limit=120) is None
    assert DETECTOR.check(flat(noise(150)), True, ended=True) is None


def test_half_a_frame_and_nothing_are_no_fault() -> None:
    assert DETECTOR.check([], True) is None
    assert DETECTOR.check([3], True) is None
    assert DETECTOR.check([], False, ended=True) is None


def test_too_little_to_know_a_loop() -> None:
    assert loop_period(np.tile(np.arange(10), 30), SILENCE) == 0
    assert loop_period(np.tile(np.arange(10), 60), SILENCE) == 10


def test_the_code_of_silence_comes_from_encoding_silence() -> None:
    class Codec:
        def encode(self, wav16k: np.ndarray) -> np.ndarray:
            assert wav16k.shape == (64000,)
            assert not wav16k.any()
            edge, inside = np.full((8, 50), 3), np.full((8, 100), 464)
            inside[:, ::3] = 9
            return np.concatenate([edge, inside, edge], axis=1).astype(np.int16)

    assert silence_codes(Codec()).tolist() == [464] * 8  # type: ignore[arg-type]
    codec = open_codec(NANO, 1)
    code = int(silence_codes(codec)[0])
    assert (codec.encode(np.zeros(8000, np.float32))[0] == code).mean() > 0.9


def real_sections() -> list[tuple[str, np.ndarray]]:
    """Label and codes [2, T] of each section of a song of the published models."""
    song = json.loads(shared_path("data/yue-ui-example-song.json").read_text("utf-8"))["cache"]
    tracks = np.array(song["tracks"][0]) - 45334
    return [(label, tracks[:, start:stop]) for label, start, stop in song["segments"]]


def test_no_section_of_the_real_song_is_flagged() -> None:
    for label, tracks in real_sections():
        words = label not in ("intro", "outro")
        assert first_fault(tracks, words, every=EVERY) is None, label
        assert DETECTOR.check(flat(tracks), words, ended=True, limit=1500) is None, label


def test_the_real_song_spoilt_is_flagged() -> None:
    sections = dict(real_sections())
    looped = sections["verse"].copy()
    for frame in range(560, looped.shape[1]):  # from 10 s on the same 1.2 s
        looped[0, frame] = looped[0, frame - 60]
    swapped = np.stack([sections["intro"][0, :640], sections["verse"][1, :640]])
    for tracks, fault, frames in ((looped, "loop", 850), (swapped, "silent voice", 600)):
        found = first_fault(tracks, every=EVERY)
        assert found
        assert (found.kind, found.frames) == (fault, frames)
    found = first_fault(sections["intro"], words=True, every=EVERY)
    assert found
    assert found.kind == "silent voice"  # as a verse it would be one


@pytest.mark.slow
def test_songs_of_the_bundled_family_are_not_flagged(song: Path) -> None:
    folder = SongFolder.open(song)
    detector = FaultDetector(int(silence_codes(open_codec(NANO, 1))[0]))
    codes, frames = folder.load_stage1()
    start = 0
    for section, count in zip(folder.song.sections, frames, strict=True):
        tracks = codes[:, start : start + count]
        assert first_fault(tracks, bool(section.body), detector, EVERY) is None, section.label
        start += count


def test_a_section_of_few_words_may_be_short() -> None:
    codes = np.random.default_rng(0).integers(1, 1024, 2 * 110)
    detector = FaultDetector(0)
    assert detector.check(codes, True, ended=True) is not None
    assert detector.check(codes, True, ended=True, min_frames=100) is None
