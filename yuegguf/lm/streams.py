"""States of a sequence's cache for contexts with other numbers of sequences.

llama.cpp writes u32 streams, then for each stream u32 cells and, unless they are 0, the cells. A state has
cells in the stream of its own sequence alone, and is refused by a context with another number of streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import DamagedFile, StorageError, is_too_many_open, too_many_open_files
from yuegguf.files.atomic import storage_errors, workspace

WORD = 4
DATA_START, FILE_START = 2 * WORD, 4 * WORD
"""Bytes before the streams: in memory magic number and sequence; in a file magic number, version, one id."""

MAX_STREAMS = 1024
"""Most sequences of a context."""


def with_streams(state: NDArray[np.uint8], start: int, streams: int) -> list[NDArray[np.uint8]]:
    """Parts of the same state for a context of so many streams. Raises DamagedFile for another layout."""
    count = _word(state, start)
    if not 0 < count <= MAX_STREAMS:
        raise DamagedFile("the state of a cache has an unknown layout")
    empty_before = 0
    while empty_before < count and not _word(state, start + WORD * (1 + empty_before)):
        empty_before += 1
    first = start + WORD * (1 + empty_before)
    last = len(state) - WORD * max(0, count - 1 - empty_before)
    if last < first or state[last:].any():
        raise DamagedFile("the state of a cache has an unknown layout")
    own = int(empty_before < count)
    number, empty = np.array([streams], "<u4").view(np.uint8), np.zeros(WORD * (streams - own), np.uint8)
    return [state[:start], number, state[first:last], empty]


@contextmanager
def readable(path: Path, streams: int) -> Iterator[Path]:
    """A saved state for a context of so many streams: the file, or a copy for a while.

    Raises DamagedFile, StorageError where the file may be whole but cannot be read or copied.
    """
    try:
        parts = _parts(path, streams)
    except (FileNotFoundError, DamagedFile) as error:
        hint = "delete it and resume again"
        raise DamagedFile(f"{path.name} is not a cache of this model", hint) from error
    except OSError as error:
        if is_too_many_open(error):
            raise too_many_open_files() from error
        raise StorageError(f"{path} cannot be read ({error.strerror or error})", "check the disk") from error
    if not parts:
        yield path
        return
    with storage_errors(path.parent), workspace(path.parent) as beside:
        with (beside / path.name).open("wb") as file:
            for part in parts:
                file.write(part.data)
        yield beside / path.name


def _parts(path: Path, streams: int) -> list[NDArray[np.uint8]]:
    """Parts of a saved state for so many streams, none where it is for them. Raises DamagedFile, OSError."""
    if _word(np.fromfile(path, np.uint8, FILE_START + WORD), FILE_START) == streams:
        return []
    return with_streams(np.memmap(path, np.uint8, "r"), FILE_START, streams)


def _word(state: NDArray[np.uint8], start: int) -> int:
    if start + WORD > len(state):
        raise DamagedFile("the state of a cache is cut off")
    return int(state[start : start + WORD].view("<u4")[0])
