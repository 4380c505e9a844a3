"""The part that a song keeps of the earlier song that it continues: `base.npz` of its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import CODEBOOKS
from yuegguf.errors import DamagedFile
from yuegguf.files.arrays import (
    MAX_SECTIONS,
    array_bytes,
    check_codes,
    check_frames,
    load_arrays,
    save_arrays,
)
from yuegguf.files.atomic import read_limited
from yuegguf.lm.vocab import interleave
from yuegguf.song.token_log import MAX_LOG_BYTES, RESTORE_HINT, parse_log
from yuegguf.stages.stage1_task import END_OF_AUDIO, KeptPrefix

T = TypeVar("T")


@dataclass(frozen=True)
class KeptPart:
    """Codes before and after the generated part, taken from an earlier song."""

    prefix: KeptPrefix
    """Sections and codes of stage 1 that are kept."""
    frames: tuple[int, ...]
    """Frames of each kept section, a partly kept last one included."""
    before: NDArray[np.int16]
    """Codes [2, 8, G] of the kept sections, or [2, 1, G] if they are not refined."""
    after_frames: tuple[int, ...]
    """Frames of each kept section after the generated ones."""
    after: NDArray[np.int16]
    """Their codes [2, 8 or 1, A]."""
    complete: tuple[bool, ...] | None = None
    """Whether the model ended each of these sections, before and after; None = unknown."""

    def caps(self, caps: Sequence[int]) -> list[int]:
        """Most frames of each section of the song, from those that its request says.

        Raises DamagedFile for fewer sections than are kept.
        """
        count = self.prefix.sections + len(self.after_frames)
        if count > len(caps):
            raise DamagedFile(f"base.npz keeps {count} sections of a song that has {len(caps)}", RESTORE_HINT)
        return _with_kept(caps, self.frames[: self.prefix.sections], self.after_frames)

    def completeness(self, complete: Sequence[bool]) -> list[bool]:
        """Whether the model ended each section of the song, from what the request's limits say."""
        whole, after = self.prefix.sections, len(self.after_frames)
        if self.complete is None:
            return list(complete)
        return _with_kept(complete, self.complete[:whole], self.complete[len(self.complete) - after :])

    def surrounds(self, codes0: NDArray[np.int16]) -> bool:
        """Whether codebook 0 [2, T] of a song begins and ends with these codes."""
        first, last = self.before[:, 0], self.after[:, 0]
        length, start = first.shape[1], codes0.shape[1] - last.shape[1]
        return (
            length <= start
            and np.array_equal(codes0[:, :length], first)
            and np.array_equal(codes0[:, start:], last)
        )

    @property
    def refined(self) -> bool:
        """Whether the kept codes have all eight codebooks."""
        return bool(self.before.shape[1] == CODEBOOKS)


def _with_kept(values: Sequence[T], before: Sequence[T], after: Sequence[T]) -> list[T]:
    """The values of all sections, with those of the kept ones in their places."""
    return [*before, *values[len(before) : len(values) - len(after)], *after]


def write_kept_part(folder: Path, part: KeptPart) -> None:
    """Write a song folder's base.npz. Raises StorageError."""
    counts = {"frames": part.frames, "after_frames": part.after_frames}
    given = [part.prefix.sections, part.prefix.codes]
    arrays = {name: np.array(values, np.int64) for name, values in {**counts, "given": given}.items()}
    if part.complete is not None:
        arrays["complete"] = np.array(part.complete, np.int64)
    save_arrays(folder / "base.npz", {**arrays, "before": part.before, "after": part.after})


def read_kept_part(folder: Path) -> KeptPart | None:
    """The kept part in a song folder, or None. Raises DamagedFile."""
    if not (folder / "base.npz").exists():
        return None
    file, counts = folder / "base.npz", ("given", "frames", "after_frames")
    arrays = load_arrays(file, counts, array_bytes(2 * MAX_SECTIONS), optional=("complete",))
    for name in counts[1:]:
        check_frames(arrays[name], None, "base.npz")
    longest = max(sum(arrays[name].tolist()) for name in counts[1:])
    arrays |= load_arrays(file, ("before", "after"), array_bytes(2 * CODEBOOKS * longest))
    books = CODEBOOKS if arrays["before"].shape[1:2] == (CODEBOOKS,) else 1
    for name, frames in (("before", "frames"), ("after", "after_frames")):
        check_codes(arrays[name], (2, books, None), "base.npz")
        check_frames(arrays[frames], arrays[name].shape[2], "base.npz")
    return KeptPart(
        _prefix(arrays["given"], len(arrays["frames"])),
        tuple(arrays["frames"].tolist()),
        arrays["before"].astype(np.int16),
        tuple(arrays["after_frames"].tolist()),
        arrays["after"].astype(np.int16),
        _completeness(arrays),
    )


def _completeness(arrays: Mapping[str, NDArray[Any]]) -> tuple[bool, ...] | None:
    """Whether the model ended each kept section; None where an earlier version wrote. Raises DamagedFile."""
    found = arrays.get("complete")
    if found is None:
        return None
    if found.shape != (len(arrays["frames"]) + len(arrays["after_frames"]),):
        raise DamagedFile("base.npz is damaged: it does not say which sections are complete", RESTORE_HINT)
    return tuple(bool(value) for value in found)


def _prefix(given: NDArray[Any], sections: int) -> KeptPrefix:
    """The kept sections, of so many that the file holds, and codes. Raises DamagedFile."""
    if given.shape == (2,) and np.issubdtype(given.dtype, np.integer):
        whole, codes = given.tolist()
        if 0 <= whole <= sections and 0 <= codes <= MAX_LOG_BYTES:
            return KeptPrefix(whole, codes)
    raise DamagedFile("base.npz is damaged: it does not say what it keeps", RESTORE_HINT)


def check_log_prefix(log: Path, part: KeptPart) -> None:
    """Refuse a token log that does not begin with the kept codes; never changes it. Raises DamagedFile."""
    content = read_limited(log, MAX_LOG_BYTES, RESTORE_HINT) if log.exists() else b""
    sections = parse_log(content, log.name)[0].sections
    whole, partial = sections[: part.prefix.sections], sections[part.prefix.sections :][:1]
    codes = [*chain(*whole), *chain(*(section[: part.prefix.codes] for section in partial))]
    if [code for code in codes if code != END_OF_AUDIO] != interleave(*part.before[:, 0]).tolist():
        raise DamagedFile(
            f"{log} does not begin with the part that the song continues", "restore it from a copy"
        )
