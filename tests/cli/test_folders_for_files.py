"""Folders where a file is wanted, and a file where a folder is: named as what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import TEXT, Capture, refused, run_refused


def test_a_folder_is_not_called_missing(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    sound = "a is a folder, not an audio file; pass a file in it"
    codes = "a is a folder, not an .npy file; pass one folder alone, or two files"
    assert refused(capsys, 5, "encode", "a") == sound
    assert refused(capsys, 5, "import", "--vocal", "a", "--inst", "b", "-g", "pop") == sound
    assert run_refused(capsys, 5, tmp_path / "out", *TEXT, "--ref", "a") == sound
    assert refused(capsys, 5, "import", "a", "b", "-g", "pop") == codes
    assert refused(capsys, 5, "decode", "a", "b") == codes
    said = run_refused(capsys, 5, tmp_path / "out", "-g", "./a", "--lyrics", "[verse]")
    assert said == "the genre './a' is a folder; pass a file, or the text itself"
    assert refused(capsys, 3, "trim", "a", "-o", "x.gguf").startswith("a is a folder, not a GGUF file; ")


def test_a_file_in_place_of_a_folder_is_said(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path / "file"))
    said = refused(capsys, 7, "models", "list")
    assert said.startswith(
        f"{tmp_path / 'file'} is a file, not a folder of models; "
        "pass a folder; YUEGGUF_MODELS_DIR and --models-dir name that of installed models"
    )
    for line in (("songs", "list"), ("cluster", "status")):
        said = refused(capsys, 5, *line, tmp_path / "file")
        assert said == f"{tmp_path / 'file'} is a file, not a folder; pass the folder that holds songs"
