"""Agreement of two quantised files on the same held-out songs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nano.corpus import make_song, sample_spec
from nano.train.songs import UNKNOWN, song_row
from yuegguf.codec.onnx import OrtCodec
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.vocab import CODEBOOK_SIZE, stage1_vocab, stage2_vocab
from yuegguf.measure.quality import (
    Agreement,
    Passage,
    Prediction,
    compare_models,
    overall_agreement,
    stage2_passages,
)

CHUNK = 100
"""Frames of a stage-2 row."""


def stage1_agreement(first: Path, second: Path, seeds: list[int]) -> Agreement:
    """Two stage-1 files on the codes of songs' first sections."""
    vocab = stage1_vocab(read_model(first).pieces)
    choices = np.r_[vocab.eoa, vocab.codebook0 : vocab.codebook0 + CODEBOOK_SIZE]
    passages = []
    for row in (song_row(sample_spec(seed), 1) for seed in seeds):
        places = np.flatnonzero(row.targets != UNKNOWN)
        chosen = [int(np.flatnonzero(choices == row.targets[place])[0]) for place in places]
        draws = [Prediction(int(place), choices, own, 0) for place, own in zip(places, chosen, strict=True)]
        passages.append(Passage([int(i) for i in row.ids[:-1]], draws))
    return overall_agreement(compare_models(first, second, passages))


def stage2_agreement(first: Path, second: Path, codec: Path, seeds: list[int]) -> Agreement:
    """Two stage-2 files on the codes of songs' instrumentals."""
    opened, vocab = OrtCodec.open(codec), stage2_vocab(read_model(first).pieces)
    codes = [opened.encode(make_song(seed).instrumental16)[:8, :CHUNK] for seed in seeds]
    # a passage for each track, of which the second is the same
    passages = [stage2_passages(np.stack([chunk, chunk]), vocab)[0] for chunk in codes]
    return overall_agreement(compare_models(first, second, passages))
