"""Stage 2: codebook 0 of both tracks → all eight codebooks, greedily, in 6 s chunks.

Every chunk is a sequence of its own (`infer.py`, `stage2_generate`): <SOA> <stage_1>, the chunk's
codebook 0, <stage_2>, then per frame the given code again and seven picks. The last pick of a frame
needs no logits of its own, so it goes in together with the next frame's codebook 0: seven steps a
frame.

Chunks of both tracks are rows of one batch. All but the last of each track are equally long, so filling
the rows anew whenever one ends is the same as taking the chunks in waves, the longest first.
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
"""Frames per chunk: what stage 2 was trained on."""
CHUNK_PROMPT_IDS = 3
"""Ids of a chunk's prompt besides its outline: <SOA>, <stage_1>, <stage_2>."""
CHUNK_IDS = CHUNK_PROMPT_IDS + CHUNK_FRAMES + 8 * CHUNK_FRAMES - 1
"""Ids that one full chunk feeds: the last pick of the last frame is never fed."""


@dataclass(frozen=True, order=True)
class Chunk:
    """A stretch of one track."""

    track: int
    """0 = vocal, 1 = instrumental."""
    start: int
    """First frame."""
    frames: int


BOTH_TRACKS = (0, 1)
"""The tracks."""


def chunk_grid(frames: int, tracks: Sequence[int] = BOTH_TRACKS) -> list[Chunk]:
    """The grid over the tracks: full chunks of 300 frames, then the rest, track by track."""
    return [
        Chunk(track, start, min(CHUNK_FRAMES, frames - start))
        for track in tracks
        for start in range(0, frames, CHUNK_FRAMES)
    ]


def distinct_chunks(codes0: NDArray[np.int16], tracks: Sequence[int] = BOTH_TRACKS) -> dict[Chunk, Chunk]:
    """Each chunk of codebook 0 [2, T] → the first chunk with the same codes: what need not be refined twice.

    Silence is the same in every chunk, and picks follow from a chunk's codes alone.
    """
    first: dict[bytes, Chunk] = {}
    return {
        chunk: first.setdefault(_chunk_codes(chunk, codes0).tobytes(), chunk)
        for chunk in chunk_grid(codes0.shape[1], tracks)
    }


StepCost = Callable[[int], int]
"""Rows of a step → what it costs beside what each row costs by itself, relative."""


def gpu_step_cost(rows: int) -> int:
    """A step on a GPU: weights are read once for all rows."""
    return 1


def cpu_step_cost(rows: int) -> int:
    """A step on a CPU, in percent of a step of one row (measured, see benchmarks/README.md).

    llama.cpp's kernels take sixteen rows at once, then four, and what is left one by one.
    """
    blocks, rest = divmod(rows, 16)
    fours, ones = divmod(rest, 4)
    return 15 + 580 * blocks + 185 * fours + 85 * ones


def rows_for(
    codes0: NDArray[np.int16],
    most: int,
    effort: StepCost = cpu_step_cost,
    tracks: Sequence[int] = BOTH_TRACKS,
) -> int:
    """The rows, at most `most`, that refine codebook 0 [2, T] soonest; the fewest of equals."""
    return best_rows(
        [chunk.frames for chunk in _distinct_longest_first(distinct_chunks(codes0, tracks))], most, effort
    )


def best_rows(lengths: Sequence[int], most: int, effort: StepCost = cpu_step_cost) -> int:
    """The rows, at most `most`, in which chunks of these frames are refined soonest; the fewest of equals."""
    longest_first = sorted(lengths, reverse=True)
    counts = range(1, min(most, len(lengths)) + 1)
    return min(counts, key=lambda rows: _total_cost(longest_first, rows, effort))


def _total_cost(lengths: Sequence[int], rows: int, effort: StepCost) -> int:
    """Of the steps of all waves; lengths are those of the chunks, the longest first."""
    total = 0
    for start in range(0, len(lengths), rows):
        wave = lengths[start : start + rows]
        # the shortest leave first: between two ends, the rows that are left go on together
        ends = [0, *reversed(wave)]
        total += sum((ends[n] - ends[n - 1]) * effort(len(ends) - n) for n in range(1, len(ends)))
    return total


def refine_codes(
    codes0: NDArray[np.int16],
    engine: TokenEngine,
    vocab: Stage2Vocab,
    done: Mapping[Chunk, NDArray[np.int16]] | None = None,
    keep: Callable[[Chunk, NDArray[np.int16]], None] = lambda chunk, codes: None,
    progress: Progress = silent,
    tracks: Sequence[int] = BOTH_TRACKS,
) -> NDArray[np.int16]:
    """Codebook 0 [2, T] → codes [2, 8, T]; those of a track that is not among `tracks` are all 0.

    Chunks go through the engine's rows in waves of fixed make-up. `done` holds chunks of an earlier
    run: a wave that is all there is skipped, any other is computed whole, so that a resume puts the
    same rows into the same batches. `keep` gets each chunk's codes [8, frames] as soon as it ends;
    of chunks with the same codes only the first.
    """
    first_like = distinct_chunks(codes0, tracks)
    work = _distinct_longest_first(first_like)
    finished = dict(done or {})
    meter = _FrameCounter(sum(chunk.frames for chunk in work), progress)
    for first in range(0, len(work), engine.n_rows):
        wave = work[first : first + engine.n_rows]
        if not all(chunk in finished for chunk in wave):
            for chunk, refined in _refine_wave(wave, codes0, engine, vocab, meter):
                finished[chunk] = refined
                keep(chunk, refined)
        else:
            meter.add(sum(chunk.frames for chunk in wave))
    codes = np.zeros((2, 8, codes0.shape[1]), np.int16)
    for chunk, first_chunk in first_like.items():
        codes[chunk.track, :, chunk.start : chunk.start + chunk.frames] = finished[first_chunk]
    return codes


def _distinct_longest_first(first_like: Mapping[Chunk, Chunk]) -> list[Chunk]:
    """The chunks that are computed, the longest first."""
    own = [chunk for chunk, first in first_like.items() if chunk == first]
    return sorted(own, key=lambda chunk: -chunk.frames)


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
    meter: _FrameCounter,
) -> Iterator[tuple[Chunk, NDArray[np.int16]]]:
    """Run one wave, a chunk per row; a chunk leaves the batch, and comes out, when it is complete."""
    refined = [np.zeros((8, chunk.frames), np.int16) for chunk in wave]
    for row, chunk in enumerate(wave):
        refined[row][0] = _chunk_codes(chunk, codes0)
        engine.forget(row, 0)
    pending = [_prompt(codes[0], vocab) for codes in refined]
    for frame in range(max(chunk.frames for chunk in wave)):
        rows = [row for row, chunk in enumerate(wave) if frame < chunk.frames]
        for k in range(1, 8):
            logits = engine.decode([SequenceInput(row, pending[row]) for row in rows])
            picks = best_codes(logits, k, vocab)
            for row, code in zip(rows, picks, strict=True):
                refined[row][k, frame] = code
                pending[row] = [int(vocab.codebooks[k]) + int(code)]
        meter.add(len(rows))
        for row in rows:
            if frame + 1 < wave[row].frames:
                pending[row].append(int(vocab.codebooks[0]) + int(refined[row][0, frame + 1]))
            else:
                yield wave[row], refined[row]


def best_codes(logits: NDArray[np.float32], codebook: int, vocab: Stage2Vocab) -> NDArray[np.intp]:
    """Logits [R, n_vocab] → the best code of one codebook per row [R]; the first of equals."""
    start = int(vocab.codebooks[codebook])
    return np.asarray(logits[:, start : start + CODEBOOK_SIZE].argmax(axis=1))


def _prompt(codes0: NDArray[np.int16], vocab: Stage2Vocab) -> list[int]:
    outline = [int(c) + int(vocab.codebooks[0]) for c in codes0]
    return [vocab.soa, vocab.stage_1, *outline, vocab.stage_2, outline[0]]
