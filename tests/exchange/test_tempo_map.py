"""A tempo map, read back by mido, and the labels of beats."""

from __future__ import annotations

from io import BytesIO

import mido
import pytest

from yuegguf.audio.tempo_and_key import MusicEstimate
from yuegguf.exchange.tempo_map import beat_labels, tempo_map
from yuegguf.request.song_request import FinishedSection

BEATS = (0.5, 1.0, 1.5, 2.02, 2.5, 3.0, 3.5)
ESTIMATE = MusicEstimate(120.0, 0.9, BEATS, 1, 0.5, "F# minor", 0.9)
SECTIONS = [FinishedSection("verse", 0.0, 2.0, True), FinishedSection("副歌", 2.0, 1.5, True)]


def timed(data: bytes) -> list[tuple[float, mido.MetaMessage]]:
    """Messages with their times in seconds, as a player has them."""
    now, found = 0.0, []
    for message in mido.MidiFile(file=BytesIO(data)):
        now += message.time
        found.append((now, message))
    return found


def test_beats_of_the_map_lie_where_the_estimate_has_them() -> None:
    tempi = [
        (time, message.tempo)
        for time, message in timed(tempo_map(ESTIMATE, []))
        if message.type == "set_tempo"
    ]
    assert [time for time, _ in tempi] == pytest.approx([0.0, *BEATS[:-1]], abs=1e-5)
    assert [tempo for _, tempo in tempi[2:5]] == [500_000, 520_000, 480_000]


def test_bars_and_sections() -> None:
    found = timed(tempo_map(ESTIMATE, SECTIONS))
    bars = [(round(time, 3), m.numerator) for time, m in found if m.type == "time_signature"]
    assert bars == [(0.0, 2), (1.0, 4)]  # what precedes the first beat, and one beat before the first bar
    marks = [(round(time, 2), m.text) for time, m in found if m.type == "marker"]
    assert marks == [(0.0, "verse"), (2.0, "??")]


def test_a_song_that_begins_on_a_bar_has_no_upbeat() -> None:
    estimate = MusicEstimate(120.0, 0.9, (0.0, 0.5, 1.0), 0, 0.5, "C major", 0.9)
    found = timed(tempo_map(estimate, []))
    assert [m.numerator for _, m in found if m.type == "time_signature"] == [4]
    assert [round(time, 3) for time, m in found if m.type == "set_tempo"] == [0.0, 0.5]


def test_labels_count_bars_and_beats() -> None:
    lines = beat_labels(ESTIMATE).splitlines()
    assert [line.split("\t")[2] for line in lines] == ["0.4", "1.1", "1.2", "1.3", "1.4", "2.1", "2.2"]
    assert lines[0].startswith("0.500000\t0.500000\t")
