"""Give codebooks 1-4 the meanings of `nano.corpus.details`, and fit the others to what is left.

    python -m nano.train.books FOLDER [--share 1] [--device cpu]

Needs the trained codec in FOLDER and writes FOLDER/books.pt; a step is a song. The encoder stays as it is:
the rows become means of its features. A row of codebooks 1-4 is the mean of what the others leave of the
instrumental frames with its meaning; the rows without one, and codebooks 5-7, are k-means of what is left
of the vocal frames, and of all frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nano.corpus import make_song
from nano.corpus.details import all_rows, sizes
from nano.corpus.states import SILENT
from nano.train import options
from nano.train.codec import FIRST_SEED, trained
from nano.train.xcodec import Codebook, XCodec

SONGS = 240
ROUNDS = 3
"""Number of times that each codebook is fitted to the residual of all others."""


@dataclass
class Frames:
    """Frames of one track of all songs."""

    left: Tensor
    """[N, D] what the codebooks so far leave of the features."""
    told: Tensor
    """[5, N] rows of codebooks 0-4; -1 where there is no meaning."""


def train(folder: Path, steps: int = SONGS, device: str = "cpu", fast: bool = True) -> None:
    """Fit codebooks 1-7 to that many songs."""
    path = folder / "books.pt"
    if path.exists():
        return
    torch.manual_seed(0)
    model = trained(folder, device)
    songs = [_frames(model, FIRST_SEED + i, device) for i in range(steps)]
    vocal, backing = (Frames(*map(torch.cat, _columns(songs, track))) for track in (0, 1))
    _fit_meanings(model.quantiser.books[:4], backing)
    for k, book in enumerate(model.quantiser.books):
        if k < 4:
            free = sizes()[k]
            _fit_free(book, free, vocal.left)
        else:
            book.fit(torch.cat([vocal.left, backing.left]))
            backing.left -= book.embed[book.choose(backing.left)]
        vocal.left -= book.embed[book.choose(vocal.left)]
    beside = path.with_suffix(".part")
    torch.save(model.quantiser.state_dict(), beside)
    beside.replace(path)


@torch.no_grad()
def _frames(model: XCodec, seed: int, device: str) -> tuple[Frames, Frames]:
    song = make_song(seed)
    wave = torch.from_numpy(np.stack([song.vocal16, song.instrumental16])[:, None]).to(device)
    known = torch.from_numpy(all_rows(song.spec)).to(device)
    found = model.features(wave).transpose(1, 2)
    left = found - model.quantiser.meanings.embed[known[0]]
    sounding = known[0, 0] != SILENT
    return Frames(left[0, sounding], known[:, 0, sounding]), Frames(left[1], known[:, 1])


def _columns(songs: list[tuple[Frames, Frames]], track: int) -> tuple[list[Tensor], list[Tensor]]:
    frames = [song[track] for song in songs]
    return [f.left for f in frames], [f.told.T for f in frames]


def _fit_meanings(books: torch.nn.ModuleList, frames: Frames) -> None:
    """Means by meaning, in turns, each of what the others leave."""
    rows = frames.told.T[1:]
    for book in books:
        book.embed.zero_()
    for _ in range(ROUNDS):
        for book, chosen in zip(books, rows, strict=True):
            frames.left += book.embed[chosen]
            count = torch.bincount(chosen, minlength=len(book.embed)).clamp_min(1)
            total = torch.zeros_like(book.embed).index_add_(0, chosen, frames.left)
            book.embed.copy_(total / count[:, None])
            frames.left -= book.embed[chosen]


def _fit_free(book: Codebook, first: int, rows: Tensor) -> None:
    """The rows from `first` on become k-means of these."""
    means = Codebook(len(book.embed) - first, rows.shape[1])
    means.fit(rows)
    book.embed[first:] = means.embed
    book.embed_avg.copy_(book.embed)


if __name__ == "__main__":
    options.run(train, __doc__, SONGS)
