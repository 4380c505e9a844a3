"""The token log: exact bytes, torn tails, damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import log_of

from yuegguf.errors import DamagedFile
from yuegguf.song.token_log import TokenLog
from yuegguf.stages.stage1_task import END_OF_AUDIO


def write(path: Path) -> bytes:
    log = TokenLog.open(path)
    for section, codes in enumerate([[813, 27, 0, 1023, END_OF_AUDIO], [5, 6]]):
        for code in codes:
            log.append(section, code)
    log.close()
    return path.read_bytes()


def test_bytes_on_disk(tmp_path: Path) -> None:
    expected = (
        b"yuegguf tokens 2\nsection 0 980fcb61\n813 5d10b905\n27 dbde41fc\n0 400bbf57\n1023 12e88642\n"
        b"end b0ea3f8a\nsection 1 fe394d39\n5 db4a9aeb\n6 2abb0b7e\n"
    )
    assert write(tmp_path / "tokens.log") == expected
    assert log_of("section 0", "813", "27", "0", "1023", "end", "section 1", "5", "6") == expected


def test_no_line_can_change_go_or_come_unseen(tmp_path: Path) -> None:
    """Any other digit, a line taken out, twice or in another place is found."""
    whole = write(tmp_path / "tokens.log")
    lines = whole.splitlines(keepends=True)
    spoilt = [b"".join([*lines[:n], *lines[n + 1 :]]) for n in range(1, len(lines) - 1)]
    spoilt += [b"".join([*lines[:n], lines[n], *lines[n:]]) for n in range(1, len(lines))]
    spoilt += [
        b"".join([*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]]) for n in range(1, len(lines) - 1)
    ]
    digits = [place for place, byte in enumerate(whole) if byte in b"0123456789" and place >= len(lines[0])]
    spoilt += [whole[:n] + bytes([48 + (whole[n] - 47) % 10]) + whole[n + 1 :] for n in digits]
    path = tmp_path / "spoilt.log"
    for content in spoilt:
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match="is damaged in line"):
            TokenLog.open(path)
        assert path.read_bytes() == content
    assert len(spoilt) > 50


def test_a_log_cut_off_before_its_damage_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "tokens.log"
    lines = write(path).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]))
    assert list(TokenLog.open(path).codes(0)) == [813, 27]


def test_a_draw_is_in_the_file_before_it_returns(tmp_path: Path) -> None:
    log = TokenLog.open(tmp_path / "tokens.log")
    log.append(0, 7)
    assert (tmp_path / "tokens.log").read_bytes() == log_of("section 0", "7")


@pytest.mark.slow
def test_cut_at_any_byte_gives_a_prefix_and_can_be_continued(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.log")
    everything = [813, 27, 0, 1023, END_OF_AUDIO, 5, 6]
    for cut in range(len(whole) + 1):
        for tail in (b"", b"\0" * 7):
            path = tmp_path / "cut.log"
            path.write_bytes(whole[:cut] + tail)
            log = TokenLog.open(path)
            drawn = [*log.codes(0), *log.codes(1)]
            assert drawn == everything[: len(drawn)]
            rest = everything[len(drawn) :]
            for code in rest:
                log.append(0 if len(log.codes(0)) < 5 else 1, code)
            log.close()
            assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"something else\n", "not a token log"),
        (b"yuegguf tokens 3\nsection 0\n", "of another version"),
        (b"yuegguf tokens 1\nsection 0\n12\n", "of another version"),
        (log_of("12"), "damaged in line 2"),
        (log_of("section 0", "1024"), "damaged in line 3"),
        (log_of("section 0", "end", "5"), "damaged in line 4"),
        (log_of("section 1"), "damaged in line 2"),
        (log_of("section 0", "5", "\x00\x00", "6"), "damaged in line 4"),
        (log_of("section 0", "9" * 5000), "damaged in line 3"),
        (log_of("section 0", "again " + "9" * 5000), "damaged in line 3"),
    ],
)
def test_damage_is_refused_and_left_alone(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.log"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=complaint):
        TokenLog.open(path)
    assert path.read_bytes() == content
