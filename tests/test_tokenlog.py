"""The token log: exact bytes, torn tails, damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from yuegguf.errors import DamagedFile
from yuegguf.tokenlog import END_OF_AUDIO, TokenLog


def write(path: Path) -> bytes:
    log = TokenLog.open(path)
    for section, codes in enumerate([[813, 27, 0, 1023, END_OF_AUDIO], [5, 6]]):
        for code in codes:
            log.draw(section, code)
    log.close()
    return path.read_bytes()


def test_bytes_on_disk(tmp_path: Path) -> None:
    expected = b"yuegguf tokens 1\nsection 0\n813\n27\n0\n1023\nend\nsection 1\n5\n6\n"
    assert write(tmp_path / "tokens.log") == expected


def test_a_draw_is_in_the_file_before_it_returns(tmp_path: Path) -> None:
    log = TokenLog.open(tmp_path / "tokens.log")
    log.draw(0, 7)
    assert (tmp_path / "tokens.log").read_bytes().endswith(b"section 0\n7\n")


def test_cut_at_any_byte_gives_a_prefix_and_can_be_continued(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.log")
    everything = [813, 27, 0, 1023, END_OF_AUDIO, 5, 6]
    for cut in range(len(whole) + 1):
        for tail in (b"", b"\0" * 7):
            path = tmp_path / "cut.log"
            path.write_bytes(whole[:cut] + tail)
            log = TokenLog.open(path)
            drawn = [*log.drawn(0), *log.drawn(1)]
            assert drawn == everything[: len(drawn)]
            rest = everything[len(drawn) :]
            for code in rest:
                log.draw(0 if len(log.drawn(0)) < 5 else 1, code)
            log.close()
            assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"something else\n", "not a token log"),
        (b"yuegguf tokens 2\nsection 0\n", "newer version"),
        (b"yuegguf tokens 1\n12\n", "damaged in line 2"),
        (b"yuegguf tokens 1\nsection 0\n1024\n", "damaged in line 3"),
        (b"yuegguf tokens 1\nsection 0\nend\n5\n", "damaged in line 4"),
        (b"yuegguf tokens 1\nsection 1\n", "damaged in line 2"),
        (b"yuegguf tokens 1\nsection 0\n5\n\x00\x00\n6\n", "damaged in line 4"),
    ],
)
def test_damage_is_refused_and_left_alone(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.log"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=complaint):
        TokenLog.open(path)
    assert path.read_bytes() == content
