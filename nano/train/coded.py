"""The corpus as codes, which the upsamplers and stage 2 learn from.

    python -m nano.train.coded FOLDER [--share 1] [--device cpu]

Needs the codec and its books in FOLDER and writes FOLDER/codes.npz; a step is a song.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nano.corpus import make_song
from nano.corpus.details import all_rows
from nano.train import options
from nano.train.codec import trained
from nano.train.xcodec import XCodec

Codes = NDArray[np.int16]
SONGS = 500
FIRST_SEED = 1_500_000
"""These songs are other ones than those that the codec has learned."""
CODEBOOKS = 8


@dataclass(frozen=True)
class Coded:
    """Songs one after the other."""

    codes: Codes
    """[2, 8, ΣF] of all songs."""
    starts: NDArray[np.int64]
    """First frame of each song, and the end of the last."""

    def song(self, number: int) -> Codes:
        """Codes [2, 8, F] of one song."""
        return self.codes[:, :, self.starts[number] : self.starts[number + 1]]


def coded(folder: Path) -> Coded:
    """Read what `train` has written."""
    with np.load(folder / "codes.npz") as kept:
        return Coded(kept["codes"], kept["starts"])


def train(folder: Path, steps: int = SONGS, device: str = "cpu", fast: bool = True) -> None:
    """Code that many songs, unless it is done already."""
    path = folder / "codes.npz"
    if path.exists():
        return
    model = trained(folder, device)
    parts = [song_codes(model, FIRST_SEED + i, device) for i in range(steps)]
    starts = np.cumsum([0, *(part.shape[2] for part in parts)])
    beside = path.with_suffix(".part.npz")
    np.savez_compressed(beside, codes=np.concatenate(parts, 2), starts=starts)
    beside.replace(path)


@torch.no_grad()
def song_codes(model: XCodec, seed: int, device: str) -> Codes:
    """Both stems of a song [2, 8, F]: codebooks with a meaning by it, the others as the codec chooses."""
    song = make_song(seed)
    wave = torch.from_numpy(np.stack([song.vocal16, song.instrumental16])[:, None]).to(device)
    known = torch.from_numpy(all_rows(song.spec)).to(device)
    chosen = model.quantiser(model.features(wave), torch.full((2,), CODEBOOKS), known)
    return chosen.codes.transpose(0, 1).cpu().numpy().astype(np.int16)


if __name__ == "__main__":
    options.run(train, __doc__, SONGS)
