"""Fault detection: every fault is detected at its documented frame, and music has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import FAST
from sections import DETECTOR, EVERY, SILENCE, first_fault, flat, noise, review, silent

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.pipeline.engines import open_codec
from yuegguf.song.folder import SongFolder
from yuegguf.song.recordings import silence_codes
from yuegguf.stages.faults import Fault, FaultDetector, loop_period

LYRICS = "[verse]\nGolden river\n[chorus]\nRemember the night\n[outro]\nMoon over the silver sea\n"
SONG = ("-g", "warm folk female", "--lyrics", LYRICS, *FAST[2:], "--segment-seconds", 8, "--draft")
NANO = Path(__file__).resolve().parents[2] / "yuegguf" / "data" / "nano"


def test_a_silent_voice_is_a_fault_at_the_end_of_its_section_alone() -> None:
    tracks = noise(700)
    tracks[0] = silent(700)
    assert first_fault(tracks) is None
    assert review(tracks) == Fault(
        "silent voice", "the voice is silent for 14 s although the section has words", 700
    )
    assert review(tracks, words=False) is None
    assert review(tracks[:, :400], ended=False, limit=400) is not None
    assert review(tracks[:, :299], ended=False, limit=299) is None  # too little to know
    assert review(tracks[:, :200]) is not None


@pytest.mark.parametrize("opening", [1, 8, 12, 20, 29])
def test_a_section_that_merely_opens_with_an_instrumental_is_never_generated_again(opening: int) -> None:
    frames = 50 * opening
    silence, quiet = np.full(frames, SILENCE), np.full(frames, 7)
    for codes, doubtful_from in ((silent(frames), 29), (silence, 15), (quiet, 10)):
        tracks = noise(1500)
        tracks[0, :frames] = codes
        assert first_fault(tracks, every=EVERY) is None
        fault = review(tracks, ended=False, limit=1500)
        assert fault is None or not fault.certain
        assert (fault is not None) == (opening >= doubtful_from)


def test_a_voice_that_hardly_sounds_is_doubtful() -> None:
    tracks = noise(1500)
    tracks[0, :600], tracks[0, 800:1500] = SILENCE, SILENCE
    assert review(tracks) == Fault("silent voice", "the voice sounds for 4.0 of 30 s", 1500, certain=False)
    tracks = noise(1500)
    tracks[0, 400:1200] = SILENCE
    assert review(tracks) == Fault("silent voice", "the voice is silent for 15 s", 1150, certain=False)
    assert review(tracks, words=False) is None


def test_dead_air_is_certain_after_ten_seconds_and_doubtful_after_six() -> None:
    for words in (True, False):
        tracks = noise(900)
        tracks[:, 300:] = SILENCE
        fault = first_fault(tracks, words)
        assert fault
        assert (fault.kind, fault.certain) == ("dead air", True)
        assert fault.frames - 300 in range(475, 501)  # a share of 0.95 is enough
        assert fault.sentence == "both tracks are silent for 10 s"
        tracks[:, 660:] = noise(240, 1)
        assert first_fault(tracks, words) is None
        assert review(tracks, words) == Fault("dead air", "both tracks are silent for 6 s", 600, False)
        tracks[:, 570:] = noise(330, 1)
        assert review(tracks, words) is None


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
def test_a_track_that_is_stuck_is_detected(row: int, codes: list[int]) -> None:
    tracks = noise(1200)
    tracks[row, 300:] = np.resize(codes, 900)
    fault = first_fault(tracks)
    assert fault
    assert fault.kind in ("collapse", "loop")  # two codes in turn are both
    seconds = (15, 6)[row]
    assert 530 <= fault.frames <= 303 + 50 * seconds
    assert fault.kind == "loop" or fault.sentence == (
        f"the {('voice', 'backing')[row]} is stuck on one sound for {seconds} s"
    )
    if row == 0:
        assert first_fault(tracks, words=False) is None


def test_a_voice_on_one_code_is_doubtful_from_ten_seconds_on_and_certain_for_a_whole_section() -> None:
    tracks = noise(1200)
    tracks[0, 300:900] = 5
    assert review(tracks) == Fault("collapse", "the voice is stuck on one sound for 10 s", 800, False)
    tracks[0, 720:] = noise(480, 1)[0]
    assert review(tracks) is None  # a real bridge ends so
    short = noise(400)
    short[0] = 5
    assert review(short) == Fault("collapse", "the voice is stuck on one sound for 8 s", 400)
    assert first_fault(short) is None


def test_a_section_with_words_that_ends_early_is_short_but_not_at_its_limit() -> None:
    tracks = noise(150)
    sentence = "the section ends after 2.4 s although it has words"
    assert review(tracks[:, :120]) == Fault("short", sentence, 120)
    assert review(tracks[:, :0]) is not None
    assert review(tracks[:, :120], ended=False) is None
    assert review(tracks[:, :120], words=False) is None
    assert review(tracks[:, :120], limit=120) is None
    assert review(tracks) is None
    assert review(tracks[:, :110], min_frames=100) is None  # of few words


def test_faults_of_what_was_given_do_not_count_but_those_after_it_do() -> None:
    tracks = noise(1400)
    tracks[:, :600] = SILENCE
    assert review(tracks) is not None
    assert review(tracks, kept_frames=600) is None
    assert DETECTOR.check(flat(tracks[:, :600]), True, kept_frames=600) is None
    tracks[:, 800:] = SILENCE
    late = review(tracks, kept_frames=600)
    assert late
    assert (late.kind, late.frames) == ("dead air", 1300)


def test_a_fault_in_the_middle_of_the_last_attempt_is_not_overlooked() -> None:
    """Attempts without retries left are checked at their end alone."""
    tracks = noise(1500)
    tracks[1, 400:800] = 9
    assert DETECTOR.check(flat(tracks), True) is None
    fault = review(tracks)
    assert fault
    assert (fault.kind, fault.certain, fault.frames) == ("collapse", True, 700)


def test_half_a_frame_and_nothing_are_no_fault() -> None:
    assert DETECTOR.check([], True) is None
    assert DETECTOR.check([3], True) is None
    assert DETECTOR.review([], False, ended=True) is None


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


@pytest.mark.slow
def test_songs_of_the_bundled_family_are_not_flagged(song: Path) -> None:
    folder = SongFolder.open(song)
    detector = FaultDetector(int(silence_codes(open_codec(NANO, 1))[0]))
    codes, frames = folder.load_stage1()
    start = 0
    for section, count in zip(folder.song.sections, frames, strict=True):
        tracks = codes[:, start : start + count]
        assert first_fault(tracks, bool(section.body), detector, EVERY) is None, section.label
        assert detector.review(flat(tracks), bool(section.body), ended=True) is None, section.label
        start += count
