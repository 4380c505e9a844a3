"""Stage 2: codebook 0 of both tracks → all eight codebooks, greedily, in 6 s chunks.

Every chunk is a sequence of its own (`infer.py`, `stage2_generate`): <SOA> <stage_1>, the chunk's
codebook 0, <stage_2>, then per frame the codebook-0 code again and seven greedy codes. The last code of a
frame needs no logits of its own, so it is fed together with the next frame's codebook 0: seven steps a
frame.

Chunks of both tracks are sequences of one batch. All but the last of each track are equally long, so
refilling a sequence whenever one ends is the same as taking the chunks in waves, the longest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yuegguf.lm.protocol import SequenceInput, TokenEngine
from yuegguf.lm.vocab import CODEBOOK_SIZE, Stage2Vocab
from yuegguf.progress import Event, Progress, silent

CHUNK_FRAMES = 300
"""Frames per chunk, as stage 2 was trained."""
CHUNK_PROMPT_IDS = 3
"""Ids of a chunk's prompt besides its codebook 0: <SOA>, <stage_1>, <stage_2>."""
CHUNK_IDS = CHUNK_PROMPT_IDS + CHUNK_FRAMES + 8 * CHUNK_FRAMES - 1
"""Ids fed for one full chunk; the last code of the last frame is never fed."""


@dataclass(frozen=True, order=True)
class Chunk:
    """Consecutive frames of one track that are refined together."""

    track: int
    """0 = vocal, 1 = instrumental."""
    start: int
    """First frame."""
    frames: int


BOTH_TRACKS = (0, 1)
"""Vocal and instrumental."""


def chunk_grid(frames: int, tracks: Sequence[int] = BOTH_TRACKS) -> list[Chunk]:
    """Chunks of the tracks, track by track: full ones of 300 frames, then the remainder."""
    return [
        Chunk(track, start, min(CHUNK_FRAMES, frames - start))
        for track in tracks
        for start in range(0, frames, CHUNK_FRAMES)
    ]


def distinct_chunks(codes0: NDArray[np.int16], tracks: Sequence[int] = BOTH_TRACKS) -> dict[Chunk, Chunk]:
    """Each chunk of codebook 0 [2, T] → the first chunk with equal codes, which alone is refined.

    The refined codes depend on a chunk's codebook 0 alone; silent chunks are equal.
    """
    first: dict[bytes, Chunk] = {}
    return {
        chunk: first.setdefault(_chunk_codes(chunk, codes0).tobytes(), chunk)
        for chunk in chunk_grid(codes0.shape[1], tracks)
    }


StepCost = Callable[[int], int]
"""Relative cost of one decode step with N sequences."""


def gpu_step_cost(rows: int) -> int:
    """Cost of a step on a GPU, where weights are read once for all sequences."""
    return 1


def cpu_step_cost(rows: int) -> int:
    """Cost of a step on a CPU, in percent of a step of one sequence (measured, see benchmarks/README.md).

    llama.cpp's kernels take sixteen columns at once, then four, and the remainder one by one.
    """
    sixteens, remainder = divmod(rows, 16)
    fours, ones = divmod(remainder, 4)
    return 15 + 580 * sixteens + 185 * fours + 85 * ones


def rows_for(
    codes0: NDArray[np.int16],
    most: int,
    effort: StepCost = cpu_step_cost,
    tracks: Sequence[int] = BOTH_TRACKS,
) -> int:
    """Number of sequences, at most `most`, that refines codebook 0 [2, T] fastest; the lowest of ties."""
    return best_rows(
        [chunk.frames for chunk in _distinct_longest_first(distinct_chunks(codes0, tracks))], most, effort
    )


def best_rows(lengths: Sequence[int], most: int, effort: StepCost = cpu_step_cost) -> int:
    """Number of sequences, at most `most`, that refines chunks of these lengths fastest."""
    longest_first = sorted(lengths, reverse=True)
    counts = range(1, min(most, len(lengths)) + 1)
    return min(counts, key=lambda rows: _total_cost(longest_first, rows, effort))


def _total_cost(lengths: Sequence[int], rows: int, effort: StepCost) -> int:
    """Cost of the steps of all waves; `lengths` are frames of the chunks, the longest first."""
    total = 0
    for start in range(0, len(lengths), rows):
        wave = lengths[start : start + rows]
        # the shortest end first: between two ends, the remaining sequences share their steps
        ends = [0, *reversed(wave)]
        total += sum((ends[n] - ends[n - 1]) * effort(len(ends) - n) for n in range(1, len(ends)))
    return total


def refine_codes(
    codes0: NDArray[np.int16],
    engine: TokenEngine,
    vocab: Stage2Vocab,
    *,
    done: Mapping[Chunk, NDArray[np.int16]] | None = None,
    keep: Callable[[Chunk, NDArray[np.int16]], None] = lambda chunk, codes: None,
    progress: Progress = silent,
    tracks: Sequence[int] = BOTH_TRACKS,
) -> NDArray[np.int16]:
    """Refine codebook 0 [2, T] → codes [2, 8, T]; a track that is not among `tracks` is all 0.

    Chunks are refined in waves of `engine.n_rows`. `done` holds chunks of an earlier run: a wave of which
    all are done is skipped, any other is computed whole, so that a resume has the same batches. `keep` is
    called with each chunk's codes [8, frames] as soon as it ends; of equal chunks only with the first.
    """
    first_equal = distinct_chunks(codes0, tracks)
    work = _distinct_longest_first(first_equal)
    finished = dict(done or {})
    counter = _FrameCounter(sum(chunk.frames for chunk in work), progress)
    for first in range(0, len(work), engine.n_rows):
        wave = work[first : first + engine.n_rows]
        if not all(chunk in finished for chunk in wave):
            for chunk, refined in _refine_wave(wave, codes0, engine, vocab, counter):
                finished[chunk] = refined
                keep(chunk, refined)
        else:
            counter.add(sum(chunk.frames for chunk in wave))
    codes = np.zeros((2, 8, codes0.shape[1]), np.int16)
    for chunk, first_chunk in first_equal.items():
        codes[chunk.track, :, chunk.start : chunk.start + chunk.frames] = finished[first_chunk]
    return codes


def _distinct_longest_first(first_equal: Mapping[Chunk, Chunk]) -> list[Chunk]:
    """Distinct chunks, the longest first."""
    distinct = [chunk for chunk, first in first_equal.items() if chunk == first]
    return sorted(distinct, key=lambda chunk: -chunk.frames)


def _chunk_codes(chunk: Chunk, codes0: NDArray[np.int16]) -> NDArray[np.int16]:
    return codes0[chunk.track, chunk.start : chunk.start + chunk.frames]


class _FrameCounter:
    def __init__(self, total: int, progress: Progress) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, frames: int) -> None:
        self.done += frames
        self.progress(Event("refine", self.done, self.total))


def _refine_wave(
    wave: Sequence[Chunk],
    codes0: NDArray[np.int16],
    engine: TokenEngine,
    vocab: Stage2Vocab,
    counter: _FrameCounter,
) -> Iterator[tuple[Chunk, NDArray[np.int16]]]:
    """Refine one wave, a chunk per sequence; yields each chunk and its codes [8, frames] when it ends."""
    refined = [np.zeros((8, chunk.frames), np.int16) for chunk in wave]
    for seq, chunk in enumerate(wave):
        refined[seq][0] = _chunk_codes(chunk, codes0)
        engine.forget(seq, 0)
    pending = [_prompt(codes[0], vocab) for codes in refined]
    for frame in range(max(chunk.frames for chunk in wave)):
        seqs = [seq for seq, chunk in enumerate(wave) if frame < chunk.frames]
        for k in range(1, 8):
            logits = engine.decode([SequenceInput(seq, pending[seq]) for seq in seqs])
            for seq, code in zip(seqs, best_codes(logits, k, vocab), strict=True):
                refined[seq][k, frame] = code
                pending[seq] = [int(vocab.codebooks[k]) + int(code)]
        counter.add(len(seqs))
        for seq in seqs:
            if frame + 1 < wave[seq].frames:
                pending[seq].append(int(vocab.codebooks[0]) + int(refined[seq][0, frame + 1]))
            else:
                yield wave[seq], refined[seq]


def best_codes(logits: NDArray[np.float32], codebook: int, vocab: Stage2Vocab) -> NDArray[np.intp]:
    """Logits [N, n_vocab] → the most likely code of one codebook for each [N]; the first of equals."""
    start = int(vocab.codebooks[codebook])
    return np.asarray(logits[:, start : start + CODEBOOK_SIZE].argmax(axis=1))


def _prompt(codes0: NDArray[np.int16], vocab: Stage2Vocab) -> list[int]:
    ids = [int(c) + int(vocab.codebooks[0]) for c in codes0]
    return [vocab.soa, vocab.stage_1, *ids, vocab.stage_2, ids[0]]
