"""What a song goes on from, as `base.npz` of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import CODEBOOKS
from yuegguf.errors import DamagedFile
from yuegguf.files.arrays import check_codes, load_arrays, save_arrays
from yuegguf.files.atomic import read_limited
from yuegguf.lm.vocab import interleave
from yuegguf.song.token_log import MAX_LOG_BYTES, RESTORE_HINT, parse_log
from yuegguf.stages.stage1_task import END_OF_AUDIO, KeptPrefix


@dataclass(frozen=True)
class KeptPart:
    """What a song begins and ends with that is not its own draw."""

    given: KeptPrefix
    frames: tuple[int, ...]
    """Of each given section, the begun one too."""
    before: NDArray[np.int16]
    """Codes [2, 8, G] of the given part, or [2, 1, G] where stage 2 has not been yet."""
    after_frames: tuple[int, ...]
    """Of each section that follows what is drawn, as it was."""
    after: NDArray[np.int16]
    """Their codes [2, 8 or 1, A]."""

    @property
    def refined(self) -> bool:
        """Whether stage 2 has nothing to do for it."""
        return bool(self.before.shape[1] == CODEBOOKS)


def write_kept_part(folder: Path, base: KeptPart) -> None:
    """Keep in a song folder what the song goes on from. Raises StorageError."""
    counts = {"frames": base.frames, "after_frames": base.after_frames}
    given = [base.given.sections, base.given.codes]
    arrays = {name: np.array(values, np.int64) for name, values in {**counts, "given": given}.items()}
    save_arrays(folder / "base.npz", {**arrays, "before": base.before, "after": base.after})


def read_kept_part(folder: Path) -> KeptPart | None:
    """What the song in a folder goes on from, or None. Raises DamagedFile."""
    if not (folder / "base.npz").exists():
        return None
    names = ("given", "frames", "before", "after_frames", "after")
    found = load_arrays(folder / "base.npz", names)
    books = CODEBOOKS if found["before"].shape[1:2] == (CODEBOOKS,) else 1
    for name, frames in (("before", "frames"), ("after", "after_frames")):
        check_codes(found[name], (2, books, int(found[frames].sum())), "base.npz")
    return KeptPart(
        KeptPrefix(*found["given"].tolist()),
        tuple(found["frames"].tolist()),
        found["before"].astype(np.int16),
        tuple(found["after_frames"].tolist()),
        found["after"].astype(np.int16),
    )


def check_log_prefix(log: Path, base: KeptPart) -> None:
    """Refuse a token log that does not begin with the given part; it is not changed. Raises DamagedFile."""
    content = read_limited(log, MAX_LOG_BYTES, RESTORE_HINT) if log.exists() else b""
    drawn = parse_log(content, log.name)[0].sections
    whole, begun = drawn[: base.given.sections], drawn[base.given.sections :][:1]
    codes = [*chain(*whole), *chain(*(section[: base.given.codes] for section in begun))]
    if [code for code in codes if code != END_OF_AUDIO] != interleave(*base.before[:, 0]).tolist():
        raise DamagedFile(f"{log} does not hold what the song goes on from", "restore it from a copy")
