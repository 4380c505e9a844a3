"""`plot`: a picture of a finished song, and words where there cannot be one."""

from __future__ import annotations

import errno
import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import edit_song

from yuegguf.cli import run_in_process
from yuegguf.exchange import plot
from yuegguf.exchange.finished_song import TimedSong
from yuegguf.exchange.peaks import track_peaks
from yuegguf.request.song_request import FinishedSection, Song

SING = 'run -g pop --lyrics "[verse] la la" --segment-seconds 1 --model nano --threads 1 --seed 5 -q'


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("songs")
    assert run_in_process([*shlex.split(SING), "-o", str(parent)]) == 0
    return next(parent.iterdir())


def size_of(png: Path) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_picture_beside_the_song(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["plot", str(song)]) == 0
    assert capsys.readouterr().out.strip() == str(song / "plot.png")
    assert size_of(song / "plot.png") == (1100, 650)
    assert run_in_process(["plot", str(song)]) == 5  # never replaced without being asked
    assert "already there" in capsys.readouterr().err
    assert run_in_process(["plot", str(song), "--force"]) == 0


def test_another_file_and_kind(song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["plot", str(song), "-o", str(tmp_path / "a.svg")]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.startswith("<?xml")
    capsys.readouterr()
    assert run_in_process(["plot", str(song), "-o", str(tmp_path / "a.doc")]) == 5
    assert "not a kind of picture" in capsys.readouterr().err
    assert not (tmp_path / "a.doc").exists()


def test_what_matplotlib_cannot_draw_is_no_wrong_ending(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it may not open its fonts, for example."""

    def fail(*_given: object, **_more: object) -> None:
        raise ValueError("failed to find a font")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    assert run_in_process(["plot", str(song), "-o", str(tmp_path / "a.png")]) == 1
    assert "matplotlib could not draw a.png (failed to find a font); check its" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_no_song(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process(["plot", str(tmp_path)]) == 5
    assert "is not a song folder" in capsys.readouterr().err


def test_without_matplotlib(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run_in_process(["plot", str(song), "-o", str(tmp_path / "a.png")]) == 5
    assert "pip install 'yuegguf[plot]'" in capsys.readouterr().err


def test_a_draft_is_drawn_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_in_process([*shlex.split(SING), "--draft", "-o", str(tmp_path)]) == 0
    (draft,) = tmp_path.iterdir()
    assert run_in_process(["plot", str(draft)]) == 0
    assert size_of(draft / "plot.png") == (1100, 650)
    assert run_in_process(["refine", str(draft), "-t", "1"]) == 0
    assert run_in_process(["plot", str(draft), "--force"]) == 0


def test_an_unfinished_song_is_not_drawn(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(song / "song.json", tmp_path)
    edit_song(tmp_path, state="draft")
    assert run_in_process(["plot", str(tmp_path)]) == 5
    assert f"finish it: yuegguf resume {tmp_path}" in capsys.readouterr().err


def test_a_picture_is_whole_or_the_one_before(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "song.png"
    out.write_bytes(b"the one before")

    def interrupted(figure: object, path: Path, **options: object) -> None:
        path.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", interrupted)
    assert run_in_process(["plot", str(song), "-o", str(out), "--force"]) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["song.png"]
    assert out.read_bytes() == b"the one before"


def test_the_timeline_has_a_bar_a_section() -> None:
    sections = [("verse", 0.0, 2.5, True), ("chorus", 2.5, 4.0, False), ("verse", 6.5, 1.0, True)]
    song = Song(Path("x"), 7.5, 1, (), tuple(FinishedSection(*section) for section in sections))
    axes = plot._figure().subplots()
    plot._draw_sections(axes, song)
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0.0, 2.5), (2.5, 4.0), (6.5, 1.0)]
    assert (
        axes.patches[0].get_facecolor() == axes.patches[2].get_facecolor() != axes.patches[1].get_facecolor()
    )
    assert [text.get_text() for text in axes.texts] == [" verse 2.5 s", " chorus 4.0 s, cut", " verse 1.0 s"]


@pytest.mark.parametrize("rate", [16000, 44100])
def test_bands_are_even_in_mel_and_a_tone_lies_where_the_scale_says(rate: int) -> None:
    bands = plot.mel_bands(rate)
    assert bands.shape == (plot.MEL_BANDS, 1025)
    np.testing.assert_allclose(bands.sum(axis=1), 1)
    for hertz in (120.0, 440.0, 1000.0, 7000.0):
        tone = np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32)
        levels = plot.mel_spectrum_db(tone, rate)
        middle = levels[len(levels) // 2]
        assert abs(int(middle.argmax()) + 0.5 - plot._hertz_to_band(hertz, rate)) < 1.5
        assert -30 < middle.max() < -6
        assert middle.max() - np.median(middle) > 50
    assert len(plot.mel_spectrum_db(np.zeros(30 * rate, np.float32), rate)) <= plot.MAX_COLUMNS


def test_lyrics_stand_at_their_times_and_are_cut_where_the_next_begins() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    song = Song(Path("x"), 20.0, 1, (), (FinishedSection("verse", 0.0, 20.0, True),))
    lines = (
        (0.0, "short $ 歌"),
        (1.0, "a line that has no room before the next one begins"),
        (2.0, "x" * 300),
    )
    plot._draw_lyrics(axes, TimedSong(song, "pop", {}, lines))
    assert [(text.get_position()[0], text.get_text()) for text in axes.texts] == [
        (0.0, "short $ 歌"),
        (1.0, "a line t…"),
        (2.0, "x" * 161 + "…"),
    ]


def test_a_song_without_words_has_an_empty_line() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    song = Song(Path("x"), 20.0, 1, (), (FinishedSection("verse", 0.0, 20.0, True),))
    plot._draw_lyrics(axes, TimedSong(song, "pop", {}, ()))
    assert list(axes.texts) == []


def test_peaks_are_the_extremes_of_every_frame(song: Path, tmp_path: Path) -> None:
    """No matplotlib is needed, and the format is that of audiowaveform."""
    assert run_in_process(["plot", str(song), "-o", str(tmp_path / "peaks.json")]) == 0
    facts = json.loads((tmp_path / "peaks.json").read_text("utf-8"))
    assert list(facts["tracks"]) == ["mix", "vocals", "instrumental"]
    assert facts["sections"] == [{"start": 0.0, "seconds": 1.0, "label": "verse"}]
    assert facts["lines"] == [{"start": 0.0, "text": "la la"}]
    for name, peaks in facts["tracks"].items():
        wave, _ = soundfile.read(song / f"{name}.wav")
        blocks = wave.reshape(-1, 882)
        assert (peaks["length"], peaks["samples_per_pixel"], peaks["bits"]) == (50, 882, 8)
        expected = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1).reshape(-1) * 127
        assert np.abs(np.array(peaks["data"]) - expected).max() <= 0.5 + 1e-6


def test_peaks_of_an_odd_end_and_of_full_scale() -> None:
    wave = np.array([1.0, -1.0, 0.25] * 100, np.float32)
    peaks = track_peaks(wave, 8000)
    assert (peaks["length"], peaks["data"]) == (2, [-127, 127, -127, 127])
