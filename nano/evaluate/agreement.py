"""How near a quantised file is to another: both read the same held-out songs, id by id."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nano.corpus import make_song, sample_spec
from nano.train.songs import UNKNOWN, song_row
from yuegguf.codec.ort import OrtCodec
from yuegguf.engine.base import Row
from yuegguf.engine.llama import EngineOptions, LlamaEngine
from yuegguf.vocab import CODEBOOK_SIZE, Stage2Vocab, stage1_vocab, stage2_vocab

CHUNK = 100
"""Frames of a stage-2 row."""


@dataclass(frozen=True)
class Agreement:
    """Over all ids that the stage draws."""

    kl: float
    """Kullback-Leibler divergence in nats of the second file from the first, mean."""
    top1: float
    """Share of ids for which both have the same best choice."""
    positions: int


def stage1_agreement(first: Path, second: Path, seeds: list[int]) -> Agreement:
    """Two stage-1 files on the codes of songs."""
    rows = [song_row(sample_spec(seed), 1) for seed in seeds]

    def read(path: Path) -> list[np.ndarray]:
        with closing(_open(path)) as engine:
            vocab = stage1_vocab(engine.pieces)
            choices = np.r_[vocab.eoa, vocab.codebook0 : vocab.codebook0 + CODEBOOK_SIZE]
            return [_scores(engine, row.ids[:-1], row.targets != UNKNOWN, choices) for row in rows]

    return _compare(read(first), read(second))


def stage2_agreement(first: Path, second: Path, codec: Path, seeds: list[int]) -> Agreement:
    """Two stage-2 files on the codes of songs' instrumentals."""
    opened = OrtCodec.open(codec)
    codes = [opened.encode(make_song(seed).instrumental16)[:8, :CHUNK] for seed in seeds]

    def read(path: Path) -> list[np.ndarray]:
        with closing(_open(path)) as engine:
            vocab = stage2_vocab(engine.pieces)
            return [_codebooks(engine, vocab, chunk) for chunk in codes]

    return _compare(read(first), read(second))


def _open(path: Path) -> LlamaEngine:
    return LlamaEngine(path, EngineOptions(4096, 1, 2))


def _codebooks(engine: LlamaEngine, vocab: Stage2Vocab, codes: np.ndarray) -> np.ndarray:
    """Log-probabilities [7·T, 1024] of codebooks 1-7."""
    ids = codes.astype(np.int64) + vocab.codebooks[:, None]
    engine.forget(0, 0)
    engine.decode([Row(0, [vocab.soa, vocab.stage_1, *map(int, ids[0]), vocab.stage_2])])
    out = []
    for frame in ids.T:
        for k, number in enumerate(frame, 1):
            logits = engine.decode([Row(0, [int(number)])])[0]
            if k < len(frame):
                start = int(vocab.codebooks[k])
                out.append(_log_softmax(logits[start : start + CODEBOOK_SIZE]))
    return np.array(out)


def _scores(engine: LlamaEngine, ids: np.ndarray, drawn: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Log-probabilities of the choices after every id that a draw follows."""
    first = int(np.flatnonzero(drawn)[0])
    engine.forget(0, 0)
    logits = engine.decode([Row(0, [int(i) for i in ids[: first + 1]])])[0]
    out = [_log_softmax(logits[choices])]
    for place in range(first + 1, len(ids)):
        logits = engine.decode([Row(0, [int(ids[place])])])[0]
        if drawn[place]:
            out.append(_log_softmax(logits[choices]))
    return np.array(out)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    values = logits.astype(np.float64)
    values -= values.max()
    return values - np.log(np.exp(values).sum())


def _compare(first: list[np.ndarray], second: list[np.ndarray]) -> Agreement:
    p, q = np.concatenate(first), np.concatenate(second)
    divergence = float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))
    return Agreement(divergence, float(np.mean(p.argmax(1) == q.argmax(1))), len(p))
