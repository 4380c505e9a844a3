"""One wave of stage 2 by itself, as one machine of several computes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.vocab import Stage2Vocab
from yuegguf.stages.stage2 import Chunk, ChunkBatch, Refinement, waves_of


def refine_wave(
    codes0: NDArray[np.int16], wave: int, engine: TokenEngine, vocab: Stage2Vocab, tracks: Sequence[int]
) -> dict[Chunk, NDArray[np.int16]]:
    """Refine one wave of codebook 0 [2, T] with all sequences of an engine → codes [8, frames] by chunk.

    The codes are those of refining all waves one after the other. Raises EngineError, Interrupted.
    """
    waves = waves_of(codes0, engine.n_rows, tracks)
    others = [chunk for number, chunks in enumerate(waves) if number != wave for chunk in chunks]
    refined: dict[Chunk, NDArray[np.int16]] = {}
    song = Refinement(
        codes0,
        engine.n_rows,
        done={chunk: np.zeros((8, chunk.frames), np.int16) for chunk in others},
        keep=refined.__setitem__,
        tracks=tracks,
    )
    batch = ChunkBatch(engine, vocab)
    while not song.complete:
        batch.fill([song])
        for error in batch.refine_frame().values():
            raise error
    return refined
