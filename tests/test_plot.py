"""`plot`: a picture of a finished song, and words where there cannot be one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from yuegguf.cli import _run

SING = 'run -g pop --lyrics "[verse] la la" --segment-seconds 1 --model nano --threads 1 --seed 5 -q'


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("songs")
    assert _run([*shlex.split(SING), "-o", str(parent)]) == 0
    return next(parent.iterdir())


def size_of(png: Path) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    data = png.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_a_picture_beside_the_song(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["plot", str(song)]) == 0
    assert capsys.readouterr().out.strip() == str(song / "plot.png")
    assert size_of(song / "plot.png") == (1100, 650)
    assert _run(["plot", str(song)]) == 5  # never replaced without being asked
    assert "already there" in capsys.readouterr().err
    assert _run(["plot", str(song), "--force"]) == 0


def test_another_file_and_kind(song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["plot", str(song), "-o", str(tmp_path / "a.svg")]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.startswith("<?xml")
    capsys.readouterr()
    assert _run(["plot", str(song), "-o", str(tmp_path / "a.doc")]) == 5
    assert "not a kind of picture" in capsys.readouterr().err
    assert not (tmp_path / "a.doc").exists()


def test_no_song(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["plot", str(tmp_path)]) == 5
    assert "is not a song folder" in capsys.readouterr().err


def test_without_matplotlib(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert _run(["plot", str(song), "-o", str(tmp_path / "a.png")]) == 3
    assert "pip install 'yuegguf[plot]'" in capsys.readouterr().err
