"""Saved states of caches in contexts with other numbers of sequences: whole files stay whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.lm import streams

BEGIN, CELLS = b"head" * 4, b"three cells."


def words(*numbers: int) -> bytes:
    return np.array(numbers, "<u4").tobytes()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The state of sequence 1 of 2."""
    path = tmp_path / "row0.bin"
    path.write_bytes(BEGIN + words(2, 0, 3) + CELLS)
    return path


@pytest.mark.parametrize(
    ("count", "expected"), [(2, words(2, 0, 3) + CELLS), (3, words(3, 3) + CELLS + words(0, 0))]
)
def test_a_state_is_read_for_any_number_of_sequences(count: int, expected: bytes, saved: Path) -> None:
    with streams.readable(saved, count) as file:
        assert file.read_bytes() == BEGIN + expected
        assert (file == saved) is (count == 2)
    assert list(saved.parent.iterdir()) == [saved]


def refusing(code: int) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize(
    ("where", "code", "message"),
    [
        ("workspace", errno.ENOSPC, "the disk is full"),
        ("np.fromfile", errno.EIO, "cannot be read"),
        ("np.fromfile", errno.EMFILE, "too many files are open"),
    ],
)
def test_a_state_that_cannot_be_copied_or_read_is_not_damaged(
    where: str, code: int, message: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"yuegguf.lm.streams.{where}", refusing(code))
    with pytest.raises(StorageError, match=message), streams.readable(saved, 3):
        pass


@pytest.mark.parametrize("content", [None, b"", BEGIN, BEGIN + words(0), BEGIN + words(2000) + CELLS])
def test_a_lost_or_cut_state_is_damaged(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "row0.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedFile, match="is not a cache of this model"), streams.readable(path, 3):
        pass


def test_an_absurd_number_of_streams_is_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    state = np.zeros(4 * streams.WORD, np.uint8)
    state[-streams.WORD :] = 255
    read = list[int]()
    word = streams._word
    monkeypatch.setattr(streams, "_word", lambda *place: read.append(place[1]) or word(*place))
    for count in (streams.MAX_STREAMS + 1, 0, 2**32 - 1):
        state[:4] = np.array([count], "<u4").view(np.uint8)
        with pytest.raises(DamagedFile, match="unknown layout"):
            streams.with_streams(state, 0, 3)
    assert read == [0, 0, 0]
