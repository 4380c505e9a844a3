"""Files in the place of texts, and choices of sections that are not there."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from helpers import Capture, cli, refused

from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import SongRequest

CONTENTS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n": "is a git-lfs pointer",
    b"<!DOCTYPE html><html><body>404</body></html>": "is a web page",
    gzip.compress(b"[verse]\nla la\n"): "is a gzip archive",
    b"PK\x03\x04 and the rest": "is a zip archive",
    b"%PDF-1.7 and the rest": "is a PDF",
}


@pytest.mark.parametrize(("content", "sentence"), CONTENTS.items(), ids=CONTENTS.values())
@pytest.mark.parametrize(
    "line",
    [
        ("lyrics", "check", "FILE"),
        ("run", "-g", "pop", "-l", "FILE", "--plan"),
        ("run", "-g", "FILE", "--lyrics", "[verse]\nla", "--plan"),
        ("run", "--queue", "FILE"),
        ("import", "FILE"),
    ],
    ids=" ".join,
)
def test_another_kind_of_file_is_never_read_as_a_text(
    line: tuple[str, ...], content: bytes, sentence: str, capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "words.json"
    file.write_bytes(content)
    said = refused(capsys, 7, *(str(file) if word == "FILE" else word for word in line))
    assert f"words.json {sentence}" in said


@pytest.mark.parametrize("part", ["check", "format"])
@pytest.mark.parametrize("name", ["nofile", "ly/zzz", "no file", "nofile.txt", "./nofile", "[verse]\nla"])
def test_the_name_of_a_missing_file_is_no_lyrics(part: str, name: str, capsys: Capture) -> None:
    said = refused(capsys, 5, "lyrics", part, name)
    assert "cannot be read (No such file or directory); check the name" in said


def test_one_line_of_words_is_a_text(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("la la la")
    assert cli(capsys, "lyrics", "check", tmp_path / "words.txt").code == 0


@pytest.mark.parametrize(
    ("spec", "notice"),
    [
        ("9", "--sections 9: the lyrics have 2 sections, which are all generated"),
        ("2", ""),
        ("1", ""),
        ("all", ""),
    ],
)
def test_sections_that_are_not_there_are_said(spec: str, notice: str) -> None:
    notices = prepare(SongRequest("pop", "[verse]\nla la\n[chorus]\nhey hey", sections=spec)).notices
    assert [each for each in notices if "--sections" in each] == [notice] * bool(notice)
