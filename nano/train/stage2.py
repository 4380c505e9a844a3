"""Train the miniature stage 2: codebook 0 of a chunk → its codebooks 1-7.

    python -m nano.train.stage2 FOLDER [--share 1] [--device cpu]

Needs the trained codec in FOLDER. A row is laid out as `yuegguf.stages.stage2` feeds it: <SOA> <stage_1>,
the chunk's codebook 0, <stage_2>, then per frame all eight codes. Codebooks 1-7 are learned, each among its
own 1024 codes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nano.lm_weights import LlamaSpec
from nano.train import options
from nano.train.coded import CODEBOOKS, Coded, coded
from nano.train.llama import Llama, rows, write
from nano.train.loop import Plan, Trainer
from nano.train.songs import pieces, tokenizer_bytes
from yuegguf.lm.vocab import CODEBOOK_SIZE, stage2_vocab
from yuegguf.stages.stage2 import CHUNK_FRAMES

SEED = 2
BATCH_FRAMES = 300
"""Frames of a step."""
SHORT_FRAMES = 60
"""Most rows are this short, which costs less; every fifth batch is a whole chunk."""
NOISE = 0.05
"""Share of codes that are read as another one: at run time the model reads its own mistakes."""
WEIGHTS = (0.25, 0.2, 0.15, 0.12, 0.1, 0.09, 0.09)
"""Weights of codebooks 1-7: the later ones cannot mend errors of the first ones."""
STEPS, RATE = 2000, 2e-3
VOCAB = stage2_vocab(pieces())
SPEC = LlamaSpec(hidden=256, layers=4, heads=4, kv_heads=2, ffn=768, vocab=len(pieces()), context=8192)


class Chunks:
    """Batches of codes [B, 8, T]; the batch of a step is a function of the step alone."""

    def __init__(self, songs: Coded) -> None:
        self.songs = songs

    def batch(self, step: int) -> np.ndarray:
        """Chunks from anywhere in the songs, vocal and instrumental."""
        draw = np.random.default_rng([step, 16])
        frames = CHUNK_FRAMES if draw.random() < 0.2 else SHORT_FRAMES
        return np.stack([self._chunk(draw, frames) for _ in range(BATCH_FRAMES // frames)])

    def _chunk(self, draw: np.random.Generator, frames: int) -> np.ndarray:
        while True:
            track = int(draw.random() < 0.6)
            start = int(draw.integers(0, self.songs.codes.shape[2] - frames + 1))
            chunk = self.songs.codes[track, :, start : start + frames]
            if np.mean(chunk[0] == 0) < 0.8 or draw.random() < 0.1:  # silence is learned soon
                return chunk


class Stage2Loss:
    """The terms of a step."""

    def __init__(self, model: Llama, chunks: Chunks, device: str) -> None:
        self.model, self.chunks, self.device = model, chunks, device

    def __call__(self, step: int) -> dict[str, Tensor]:
        """One term per codebook, weighted."""
        codes = self.chunks.batch(step)
        with torch.autocast(self.device, torch.bfloat16):
            hidden = self.model(rows(layout(noisy(codes, step)), self.device))
            begin = 3 + codes.shape[2]
            frames = hidden[:, begin:].unflatten(1, (-1, CODEBOOKS))
            return {
                f"codebook {k}": weight
                * self._distance(frames[:, :, k - 1], k, rows(codes[:, k], self.device))
                for k, weight in enumerate(WEIGHTS, 1)
            }

    def _distance(self, hidden: Tensor, k: int, wanted: Tensor) -> Tensor:
        """Cross-entropy among the codes of codebook k."""
        first = int(VOCAB.codebooks[k])
        scores = functional.linear(hidden, self.model.lm_head.weight[first : first + CODEBOOK_SIZE])
        return functional.cross_entropy(scores.float().flatten(0, 1), wanted.flatten())


def layout(codes: np.ndarray) -> np.ndarray:
    """Codes [B, 8, T] → ids [B, 3 + 9·T]."""
    ids = codes.astype(np.int64) + VOCAB.codebooks[:, None]
    lead = np.tile([VOCAB.soa, VOCAB.stage_1], (len(codes), 1))
    end = np.full((len(codes), 1), VOCAB.stage_2)
    return np.concatenate([lead, ids[:, 0], end, ids.transpose(0, 2, 1).reshape(len(codes), -1)], 1)


def noisy(codes: np.ndarray, step: int) -> np.ndarray:
    """Some codes of codebooks 1-7 replaced by those of another frame of the batch."""
    draw = np.random.default_rng([step, 17])
    hit = draw.random(codes.shape) < NOISE
    hit[:, 0] = False
    other = codes[draw.permutation(len(codes))][:, :, draw.permutation(codes.shape[2])]
    return np.where(hit, other, codes)


def train(folder: Path, steps: int = STEPS, device: str = "cpu", fast: bool = True) -> None:
    """Train to the last step and write FOLDER/stage2."""
    songs = coded(folder)
    torch.manual_seed(SEED)
    model = Llama(SPEC).to(device)
    Trainer(Plan(folder, "stage2", steps, RATE, device), model).run(Stage2Loss(model, Chunks(songs), device))
    write(folder / "stage2", model, tokenizer_bytes())


if __name__ == "__main__":
    options.run(train, __doc__, STEPS)
