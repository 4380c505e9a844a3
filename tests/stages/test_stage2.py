"""Stage 2 on a fake engine: the official sequence, the strict mask, waves, resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import PIECES, FakeEngine

from yuegguf.errors import EngineError, StorageError
from yuegguf.lm.vocab import stage2_vocab
from yuegguf.progress import Event
from yuegguf.stages import stage2
from yuegguf.stages.stage2 import Chunk

VOCAB = stage2_vocab(PIECES)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage2, "CHUNK_FRAMES", 5)


def codes0(frames: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 1024, (2, frames)).astype(np.int16)


def test_grid_of_two_tracks() -> None:
    assert stage2.chunk_grid(637)[:4] == [
        Chunk(0, 0, 300),
        Chunk(0, 300, 300),
        Chunk(0, 600, 37),
        Chunk(1, 0, 300),
    ]
    assert stage2.chunk_grid(600)[-1] == Chunk(1, 300, 300)
    assert stage2.chunk_grid(1) == [Chunk(0, 0, 1), Chunk(1, 0, 1)]
    assert stage2.chunk_grid(0) == []


def test_a_full_chunk_feeds_2702_ids() -> None:
    assert stage2.CHUNK_IDS == 2702


@pytest.mark.usefixtures("small_chunks")
def test_each_row_is_fed_the_official_sequence_in_seven_steps_a_frame() -> None:
    given = codes0(5)
    engine = FakeEngine(n_rows=2)
    codes = stage2.refine_codes(given, engine, VOCAB)
    for track in (0, 1):
        ids = codes[track].astype(int) + VOCAB.codebooks[:, None]
        flat = ids.T.ravel().tolist()
        expected = [VOCAB.soa, VOCAB.stage_1, *ids[0], VOCAB.stage_2, *flat[:-1]]
        assert engine.fed[track] == expected
    assert len(engine.calls) == 7 * 5
    assert [len(call[0].ids) for call in engine.calls[:9]] == [9, 1, 1, 1, 1, 1, 1, 2, 1]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("rows", [1, 2, 3, 6, 10])
def test_rows_do_not_change_the_codes(rows: int) -> None:
    given = codes0(13)
    codes = stage2.refine_codes(given, FakeEngine(n_rows=rows), VOCAB)
    assert codes.shape == (2, 8, 13)
    assert (codes[:, 0] == given).all()
    assert (codes >= 0).all()
    assert (codes < 1024).all()
    assert (codes == stage2.refine_codes(given, FakeEngine(n_rows=1), VOCAB)).all()


def test_pick_stays_inside_its_codebook_and_takes_the_first_of_equals() -> None:
    logits = np.full((1, len(PIECES)), 9.0, np.float32)
    start = VOCAB.codebooks[3]
    logits[0, start : start + 1024] = -5.0
    logits[0, [start + 7, start + 9]] = -4.0
    assert stage2.best_codes(logits, 3, VOCAB).tolist() == [7]


@pytest.mark.parametrize("broken", [{7: np.nan}, {0: np.inf, 9: np.nan}, {3: np.inf}, {...: -np.inf}])
def test_logits_of_any_row_that_are_not_numbers_are_an_error(broken: dict[Any, float]) -> None:
    logits = np.zeros((3, len(PIECES)), np.float32)
    start = VOCAB.codebooks[5]
    for place, value in broken.items():
        logits[1, start : start + 1024][place] = value
    with pytest.raises(EngineError, match="stage 2 is not a number"):
        stage2.best_codes(logits, 5, VOCAB)
    assert stage2.best_codes(logits, 4, VOCAB).tolist() == [0, 0, 0]  # those of other codebooks are not read


@pytest.mark.usefixtures("small_chunks")
def test_a_broken_model_is_an_error_before_any_chunk_is_kept() -> None:
    class Broken(FakeEngine):
        def _logits(self, ids: object) -> np.ndarray:
            return np.full(len(PIECES), np.nan, np.float32)

    with pytest.raises(EngineError, match="not a number"):
        stage2.refine_codes(codes0(5), Broken(), VOCAB, keep=pytest.fail)


@pytest.mark.usefixtures("small_chunks")
def test_finished_waves_are_skipped_and_unfinished_ones_run_whole() -> None:
    given, kept = codes0(12), {}
    expected = stage2.refine_codes(given, FakeEngine(n_rows=2), VOCAB, keep=kept.__setitem__)
    assert sorted(kept) == stage2.chunk_grid(12)
    grid = sorted(stage2.chunk_grid(12), key=lambda chunk: -chunk.frames)
    done = {chunk: kept[chunk] for chunk in grid[:3]}  # one whole wave and half of the next
    engine, again = FakeEngine(n_rows=2), {}
    assert (stage2.refine_codes(given, engine, VOCAB, done=done, keep=again.__setitem__) == expected).all()
    assert set(again) == set(grid[2:])
    assert len(engine.calls[0]) == 2  # the same rows share a batch as before


@pytest.mark.usefixtures("small_chunks")
def test_the_rest_of_both_tracks_shares_the_last_batches() -> None:
    engine = FakeEngine(n_rows=4)
    stage2.refine_codes(codes0(12), engine, VOCAB)
    assert len(engine.calls) == 7 * (5 + 2)
    assert [len(call) for call in engine.calls] == [4] * 35 + [2] * 14


@pytest.mark.usefixtures("small_chunks")
def test_equal_chunks_are_refined_once() -> None:
    given = codes0(12)
    given[0, :10] = 7  # two chunks of silence
    given[1, 5:10] = 7
    engine, kept = FakeEngine(n_rows=1), {}
    codes = stage2.refine_codes(given, engine, VOCAB, keep=kept.__setitem__)
    assert len(engine.calls) == 7 * (5 + 5 + 2 + 2)
    assert Chunk(0, 0, 5) in kept
    assert not {Chunk(0, 5, 5), Chunk(1, 5, 5)} & set(kept)
    assert (codes[:, 0] == given).all()
    np.testing.assert_array_equal(codes[0, :, :5], codes[0, :, 5:10])
    np.testing.assert_array_equal(codes[0, :, :5], codes[1, :, 5:10])
    resumed = stage2.refine_codes(given, FakeEngine(n_rows=1), VOCAB, done=kept, keep=pytest.fail)
    np.testing.assert_array_equal(resumed, codes)


@pytest.mark.parametrize(
    ("frames", "most", "rows"),
    [
        (300, 10, 2),
        (1500, 10, 10),
        (1500, 9, 5),  # two waves either way
        (1525, 10, 10),  # ten full ones, then both rests: six rows would take 600 frames, not 325
        (1800, 10, 8),  # then four, which are as cheap as two
        (3000, 10, 8),
        (3000, 16, 16),  # all at once, then four
        (3000, 4, 4),
        (40, 10, 2),
    ],
)
def test_rows_are_those_that_end_soonest(frames: int, most: int, rows: int) -> None:
    assert stage2.best_rows(stage2.distinct_lengths(codes0(frames)), most) == rows


def test_on_a_gpu_rows_are_the_fewest_with_the_fewest_steps() -> None:
    assert stage2.best_rows(stage2.distinct_lengths(codes0(1800)), 10, stage2.gpu_step_cost) == 6
    assert stage2.best_rows(stage2.distinct_lengths(codes0(3000)), 32, stage2.gpu_step_cost) == 20


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 12])
def test_the_effort_of_a_song_is_that_of_all_its_steps(rows: int) -> None:
    lengths = [12, 12, 12, 12, 5, 3, 3]
    waves = [lengths[start : start + rows] for start in range(0, len(lengths), rows)]
    steps = [sum(frame < own for own in wave) for wave in waves for frame in range(max(wave))]
    total = sum(stage2.cpu_step_cost(busy) for busy in steps)
    assert stage2._total_cost(lengths, rows, stage2.cpu_step_cost) == total


@pytest.mark.usefixtures("small_chunks")
def test_progress_reaches_its_total_also_after_a_resume() -> None:
    events: list[Event] = []
    kept: dict[Chunk, np.ndarray] = {}
    stage2.refine_codes(codes0(12), FakeEngine(n_rows=2), VOCAB, keep=kept.__setitem__)
    done = {chunk: kept[chunk] for chunk in stage2.chunk_grid(12)[:2]}
    stage2.refine_codes(codes0(12), FakeEngine(n_rows=2), VOCAB, done=done, progress=events.append)
    assert events[0].done == 10
    assert events[-1].done == events[-1].total == 24


def refined_together(
    songs: list[stage2.Refinement], rows: int
) -> tuple[FakeEngine, dict[stage2.Refinement, Exception]]:
    """Refine several songs in one engine, the first one's chunks first."""
    engine, failed = FakeEngine(n_rows=rows), {}
    batch = stage2.ChunkBatch(engine, VOCAB)
    while left := [song for song in songs if not song.complete and song not in failed]:
        batch.fill(left)
        failed |= batch.refine_frame()
    return engine, failed


def songs_of(*frames: int, rows: int, **options: Any) -> list[stage2.Refinement]:
    return [stage2.Refinement(codes0(count), rows, **options) for count in frames]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("rows", [1, 3, 4, 7])
def test_chunks_of_several_songs_share_the_rows_and_equal_each_alone(rows: int) -> None:
    frames = (13, 4, 22, 1, 10)
    songs = songs_of(*frames, rows=rows)
    engine, failed = refined_together(songs, rows)
    assert failed == {}
    for song, count in zip(songs, frames, strict=True):
        alone = stage2.refine_codes(codes0(count), FakeEngine(n_rows=1), VOCAB)
        np.testing.assert_array_equal(song.codes(), alone)
    steps = [[row.seq for row in call] for call in engine.calls if call[0].n_logits]
    assert all(seqs == list(range(len(seqs))) for seqs in steps)  # neighbours, or weights are read twice
    assert max(map(len, steps)) == rows


@pytest.mark.usefixtures("small_chunks")
def test_the_oldest_song_comes_first_and_others_fill_what_it_leaves() -> None:
    ended: list[str] = []
    songs = [
        stage2.Refinement(codes0(count), 4, keep=lambda chunk, codes, name=name: ended.append(name))
        for name, count in (("old", 15), ("young", 10), ("youngest", 5))
    ]
    refined_together(songs, 4)
    assert ended == ["old"] * 4 + ["old"] * 2 + ["young"] * 4 + ["youngest"] * 2


@pytest.mark.usefixtures("small_chunks")
def test_a_song_whose_chunk_cannot_be_kept_stops_no_other() -> None:
    def full(chunk: Chunk, codes: np.ndarray) -> None:
        raise StorageError("the disk is full")

    songs = [*songs_of(13, rows=3), *songs_of(22, rows=3, keep=full), *songs_of(7, rows=3)]
    _, failed = refined_together(songs, 3)
    assert {songs.index(song): type(error) for song, error in failed.items()} == {1: StorageError}
    for number, count in ((0, 13), (2, 7)):
        alone = stage2.refine_codes(codes0(count), FakeEngine(n_rows=1), VOCAB)
        np.testing.assert_array_equal(songs[number].codes(), alone)
