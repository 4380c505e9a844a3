"""Stage 2: codebook 0 of both tracks → all eight codebooks, greedily, in 6 s chunks.

Every chunk is a sequence of its own (`infer.py`, `stage2_generate`): <SOA> <stage_1>, the chunk's
codebook 0, <stage_2>, then per frame the codebook-0 code again and seven greedy codes. The last code of a
frame needs no logits of its own, so it is fed together with the next frame's codebook 0: seven steps a
frame.

Chunks of both tracks, and of several songs, are sequences of one batch. All but the last of each track are
equally long, so refilling a sequence whenever one ends is the same as taking a song's chunks in waves.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError
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


def distinct_lengths(codes0: NDArray[np.int16], tracks: Sequence[int] = BOTH_TRACKS) -> list[int]:
    """Frames of the distinct chunks of codebook 0 [2, T], the longest first."""
    return [chunk.frames for chunk in _distinct_longest_first(distinct_chunks(codes0, tracks))]


def waves_of(codes0: NDArray[np.int16], rows: int, tracks: Sequence[int] = BOTH_TRACKS) -> list[list[Chunk]]:
    """Distinct chunks of codebook 0 [2, T], the longest first, in waves of `rows`."""
    work = _distinct_longest_first(distinct_chunks(codes0, tracks))
    return [work[first : first + rows] for first in range(0, len(work), rows)]


def best_rows(lengths: Sequence[int], most: int, effort: StepCost = cpu_step_cost) -> int:
    """The least number of sequences, at most `most`, that refines chunks of these lengths fastest."""
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
    """Refine codebook 0 [2, T] → codes [2, 8, T] with all sequences of an engine; see `Refinement`."""
    song = Refinement(codes0, engine.n_rows, done=done, keep=keep, progress=progress, tracks=tracks)
    batch = ChunkBatch(engine, vocab)
    while not song.complete:
        batch.fill([song])
        for error in batch.refine_frame().values():
            raise error
    return song.codes()


class Refinement:
    """Refinement of one song: its distinct chunks in waves, the longest first.

    A wave begins when the one before has ended. One of which all chunks are done is skipped, any other is
    computed whole, so that a resume has the same batches.
    """

    def __init__(
        self,
        codes0: NDArray[np.int16],
        rows: int,
        *,
        done: Mapping[Chunk, NDArray[np.int16]] | None = None,
        keep: Callable[[Chunk, NDArray[np.int16]], None] = lambda chunk, codes: None,
        progress: Progress = silent,
        tracks: Sequence[int] = BOTH_TRACKS,
    ) -> None:
        """Refine codebook 0 [2, T] in waves of `rows` chunks; a track that is not among `tracks` is all 0.

        `done` holds chunks of an earlier run. `keep` is called with each chunk's codes [8, frames] as soon
        as it ends; of equal chunks only with the first.
        """
        self._codes0, self._keep, self._progress = codes0, keep, progress
        self._first_equal = distinct_chunks(codes0, tracks)
        self._waves = deque(waves_of(codes0, rows, tracks))
        self._finished = dict(done or {})
        self._frames, self._total = 0, sum(chunk.frames for wave in self._waves for chunk in wave)
        self._waiting: list[Chunk] = []
        """Chunks of this wave that have not begun."""
        self._running = 0
        self._begin_wave()

    @property
    def complete(self) -> bool:
        """Whether all chunks have ended."""
        return not (self._waiting or self._running)

    def take(self, count: int) -> list[Chunk]:
        """At most `count` chunks of this wave, which begin now."""
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._running += len(taken)
        return taken

    def codebook0(self, chunk: Chunk) -> NDArray[np.int16]:
        """Codebook 0 of a chunk [frames]."""
        return _chunk_codes(chunk, self._codes0)

    def add_frames(self, count: int) -> None:
        """Report so many refined frames."""
        self._frames += count
        self._progress(Event("refine", self._frames, self._total))

    def end(self, chunk: Chunk, codes: NDArray[np.int16]) -> None:
        """Keep the codes [8, frames] of a chunk that has ended."""
        self._finished[chunk] = codes
        self._running -= 1
        self._keep(chunk, codes)
        if self.complete:
            self._begin_wave()

    def codes(self) -> NDArray[np.int16]:
        """Codes [2, 8, T] of the whole song, once it is complete."""
        codes = np.zeros((2, 8, self._codes0.shape[1]), np.int16)
        for chunk, first_chunk in self._first_equal.items():
            codes[chunk.track, :, chunk.start : chunk.start + chunk.frames] = self._finished[first_chunk]
        return codes

    def _begin_wave(self) -> None:
        while self._waves and not self._waiting:
            wave = self._waves.popleft()
            if all(chunk in self._finished for chunk in wave):
                self.add_frames(sum(chunk.frames for chunk in wave))
            else:
                self._waiting = wave


@dataclass
class _Row:
    """A chunk that is refined in a sequence."""

    song: Refinement
    chunk: Chunk
    refined: NDArray[np.int16]
    """Codes [8, frames]."""
    pending: list[int]
    """Ids that are fed in the next step."""
    frame: int = 0


class ChunkBatch:
    """Chunks of several songs, each in a sequence of its own; they join and leave between two frames."""

    def __init__(self, engine: TokenEngine, vocab: Stage2Vocab) -> None:
        self._engine, self._vocab = engine, vocab
        self._rows: dict[int, _Row] = {}
        """Sequence → its chunk."""

    def fill(self, songs: Sequence[Refinement]) -> None:
        """Let chunks of the songs begin in the free sequences, those of the first song first."""
        for song in songs:
            for chunk in song.take(self._engine.n_rows - len(self._rows)):
                refined = np.zeros((8, chunk.frames), np.int16)
                refined[0] = song.codebook0(chunk)
                seq = next(seq for seq in range(self._engine.n_rows) if seq not in self._rows)
                self._rows[seq] = _Row(song, chunk, refined, _prompt(refined[0], self._vocab))

    def drop(self, song: Refinement) -> None:
        """Take a song's chunks out."""
        self._rows = {seq: row for seq, row in self._rows.items() if row.song is not song}

    def refine_frame(self) -> dict[Refinement, Exception]:
        """Refine the next frame of every chunk, in seven steps; chunks that end are given to their songs.

        Returns the songs whose own callbacks failed, which are taken out, and why. Raises EngineError,
        Interrupted.
        """
        self._close_gaps()
        self._read_prompts()
        rows = sorted(self._rows.items())
        for codebook in range(1, 8):
            logits = self._engine.decode([SequenceInput(seq, row.pending) for seq, row in rows])
            for (_, row), code in zip(rows, best_codes(logits, codebook, self._vocab), strict=True):
                row.refined[codebook, row.frame] = code
                row.pending = [int(self._vocab.codebooks[codebook]) + int(code)]
        return self._end_frame()

    def _close_gaps(self) -> None:
        """Move the last sequences into gaps, since llama.cpp computes only neighbours together."""
        for seq in range(len(self._rows)):
            if seq not in self._rows:
                last = max(self._rows)
                self._engine.copy(last, seq)
                self._rows[seq] = self._rows.pop(last)

    def _read_prompts(self) -> None:
        """Read the prompts of new chunks but for what is fed in the next step.

        Where all are new, that is all of it: the engine then splits it.
        """
        new = [(seq, row) for seq, row in sorted(self._rows.items()) if not row.frame]
        for seq, row in new:
            self._engine.forget(seq, 0)
            if len(new) < len(self._rows):
                self._engine.decode([SequenceInput(seq, row.pending[:-1], n_logits=0)])
                del row.pending[:-1]

    def _end_frame(self) -> dict[Refinement, Exception]:
        failed: dict[Refinement, Exception] = {}
        ended = []
        for seq, row in sorted(self._rows.items()):
            row.frame += 1
            if row.frame < row.chunk.frames:
                row.pending.append(int(self._vocab.codebooks[0]) + int(row.refined[0, row.frame]))
            else:
                ended.append(self._rows.pop(seq))
        counts = Counter(row.song for row in [*self._rows.values(), *ended])
        for song, count in counts.items():
            try:
                song.add_frames(count)
                for row in ended:
                    if row.song is song:
                        song.end(row.chunk, row.refined)
            except Exception as error:  # a song's failure stops no other
                failed[song] = error
                self.drop(song)
        return failed


def _distinct_longest_first(first_equal: Mapping[Chunk, Chunk]) -> list[Chunk]:
    """Distinct chunks, the longest first."""
    distinct = [chunk for chunk, first in first_equal.items() if chunk == first]
    return sorted(distinct, key=lambda chunk: -chunk.frames)


def _chunk_codes(chunk: Chunk, codes0: NDArray[np.int16]) -> NDArray[np.int16]:
    return codes0[chunk.track, chunk.start : chunk.start + chunk.frames]


def best_codes(logits: NDArray[np.float32], codebook: int, vocab: Stage2Vocab) -> NDArray[np.intp]:
    """Logits [N, n_vocab] → the most likely code of one codebook for each [N]; the first of equals.

    Raises EngineError for logits that are not numbers.
    """
    start = int(vocab.codebooks[codebook])
    own = logits[:, start : start + CODEBOOK_SIZE]
    best = np.asarray(own.argmax(axis=1))
    # NaN is greater than any number to argmax, so that the best ones tell of all
    if not np.isfinite(own[np.arange(len(own)), best]).all():
        raise EngineError(
            "the output of stage 2 is not a number", "its file may be damaged: convert it again"
        )
    return best


def _prompt(codes0: NDArray[np.int16], vocab: Stage2Vocab) -> list[int]:
    ids = [int(c) + int(vocab.codebooks[0]) for c in codes0]
    return [vocab.soa, vocab.stage_1, *ids, vocab.stage_2, ids[0]]
