"""Faults of one song, or of the caller, on a scheduler: they end nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scheduled import OPTIONS, REQUESTS, folders, job_of, note_engines, outcome, run_all, works_of

from yuegguf.codec.protocol import CODEC_RATE
from yuegguf.errors import DamagedFile, EngineError, Interrupted, NotInstalled, YueError
from yuegguf.lm import llama
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import draft_turn, phases, preflight, refine_turn, takes
from yuegguf.pipeline.engines import EngineFactory, encoding_memory
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.song_request import Reference, Song
from yuegguf.song.folder import SongFolder
from yuegguf.song.state import where
from yuegguf.stages.batching import StepBatch

DRAFTS = [replace(REQUESTS[0], seed=seed) for seed in range(4)]


def fail_encoding(monkeypatch: pytest.MonkeyPatch, failing: SongFolder) -> None:
    """Let the inputs of a song be unreadable."""
    real = phases.encode_inputs

    def encode(folder: SongFolder, *rest: Any) -> float:
        if folder.path == failing.path:
            raise DamagedFile("the reference is damaged")
        return real(folder, *rest)

    monkeypatch.setattr(phases, "encode_inputs", encode)


def test_a_turn_whose_song_failed_drafts_no_other_with_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = folders(tmp_path, DRAFTS[:2], draft="mix")
    fail_encoding(monkeypatch, songs[0])
    works = [*works_of(songs[:1]), *works_of(songs[1:], replace(OPTIONS, threads=2))]
    engines = note_engines(monkeypatch)
    run_all(Scheduler(2), works)
    assert isinstance(outcome(works[0]), DamagedFile)
    assert works[1].result().draft
    assert [engine.options.threads for engine in engines] == [2]


def test_the_memory_limit_of_a_turn_is_that_of_a_song_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs, limits = folders(tmp_path, DRAFTS[:3], draft="mix"), list[int | None]()

    def fit(_needs: object, _stage1: object, options: ComputeOptions, _devices: object) -> bool:
        limits.append(options.max_memory)
        return True

    monkeypatch.setattr(draft_turn, "drafts_fit", fit)
    fail_encoding(monkeypatch, songs[0])
    works = [*works_of(songs[:1]), *works_of(songs[1:], replace(OPTIONS, max_memory=8 * 2**30))]
    run_all(Scheduler(3), works)
    assert [type(outcome(work)) for work in works] == [DamagedFile, Song, Song]
    assert limits == [8 * 2**30]


def test_takes_go_on_without_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = works_of(takes.start(job_of(tmp_path, DRAFTS[0], count=3)))
    fail_encoding(monkeypatch, works[0].folder)
    engines = note_engines(monkeypatch)
    scheduler = Scheduler()
    scheduler.submit(*works)
    scheduler.run()
    assert [type(outcome(work)) for work in works] == [DamagedFile, Song, Song]
    assert [max(engine.widths) for engine in engines] == [4]


def test_songs_go_on_with_the_rows_of_one_that_is_refined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = folders(tmp_path, DRAFTS[:2])
    real = phases.load_draft

    def load(folder: SongFolder) -> phases.Draft:
        if folder.path == songs[0].path:
            raise DamagedFile("stage1.npz is cut off")
        return real(folder)

    monkeypatch.setattr(phases, "load_draft", load)
    engines = note_engines(monkeypatch)
    works = [*works_of(songs[:1]), *works_of(songs[1:], replace(OPTIONS, stage2_rows=1))]
    run_all(Scheduler(2), works)
    assert [type(outcome(work)) for work in works] == [DamagedFile, Song]
    assert [engine.options.n_rows for engine in engines if engine.stage == "stage2"] == [1]


def test_a_waiting_song_that_is_damaged_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    songs = folders(tmp_path, DRAFTS[:3], draft="mix")
    real = SongFolder.frame_caps

    def caps(folder: SongFolder) -> list[int]:
        if folder.path == songs[1].path:
            raise DamagedFile("what the song goes on from is damaged")
        return real(folder)

    monkeypatch.setattr(SongFolder, "frame_caps", caps)
    works = works_of(songs)
    run_all(Scheduler(3), works)
    assert [type(outcome(work)) for work in works] == [Song, DamagedFile, Song]


def test_the_decoder_of_a_preview_counts_once_for_each_song(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[int], int]] = []

    def fit(needs: list[Any], stage1: Any, *_rest: object) -> bool:
        asked.append(([need.other_bytes for need in needs], stage1.bytes))
        return True

    monkeypatch.setattr(draft_turn, "drafts_fit", fit)
    early = PreviewOptions("mix", preview_seconds=60.0)
    run_all(Scheduler(2), works_of(folders(tmp_path, DRAFTS[:2], draft="mix"), early=lambda _before: early))
    decoder = (nano_models().codec / "decoder.onnx").stat().st_size
    assert asked == [([decoder, decoder], preflight.read_models(nano_models()).facts.stage1.bytes)]
    lost = replace(nano_models(), codec=tmp_path)
    assert preflight.read_models(lost, preview=True).preview_bytes == 0


def test_songs_are_cancelled_and_stopped_between_the_same_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, steps, works = threading.Event(), iter(range(30)), works_of(folders(tmp_path, DRAFTS[:2]))
    real = StepBatch.step

    def step(batch: StepBatch[None]) -> dict[int, Any]:
        ended = real(batch)
        if next(steps, None) is None:
            works[1].cancel()
            stop.set()
        return ended

    monkeypatch.setattr(StepBatch, "step", step)
    run_all(Scheduler(2, stop), works)
    assert [type(outcome(work)) for work in works] == [Interrupted, Interrupted]


@pytest.mark.parametrize(
    "error", [EngineError("it broke", "do this"), NotInstalled("none", "pull it", "nano")]
)
def test_each_song_of_a_failed_turn_has_an_error_with_its_own_folder(
    error: YueError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise error

    monkeypatch.setattr(llama.LlamaEngine, "__init__", refuses)
    works = works_of(folders(tmp_path, DRAFTS[:3]))
    run_all(Scheduler(3), works)
    errors = [outcome(work) for work in works]
    assert [each.folder for each in errors if isinstance(each, YueError)] == [
        work.folder.path for work in works
    ]
    for each in errors:
        assert type(each) is type(error)
        assert {**vars(each), "folder": None} == {**vars(error), "folder": None}
        assert str(each) == str(error)
        assert each.__traceback__


def test_a_draft_is_read_once_to_refine_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = works_of(folders(tmp_path, DRAFTS[:1]))
    real_run, real_load = refine_turn.RefineTurn.run, SongFolder.load_stage1
    reads: list[bool] = []
    inside = [False]

    def run(turn: refine_turn.RefineTurn) -> None:
        inside[0] = True
        real_run(turn)
        inside[0] = False

    def load(folder: SongFolder) -> Any:
        reads.append(inside[0])
        return real_load(folder)

    monkeypatch.setattr(refine_turn.RefineTurn, "run", run)
    monkeypatch.setattr(SongFolder, "load_stage1", load)
    run_all(Scheduler(), works)
    assert works[0].result()
    assert sum(reads) == 1


# Failures of the caller


def test_an_end_that_cannot_be_reported_ends_the_run_after_the_turn(tmp_path: Path) -> None:
    ended: list[SongWork] = []

    def report(work: SongWork) -> None:
        ended.append(work)
        raise BrokenPipeError("nobody reads")

    works = works_of(folders(tmp_path, DRAFTS[:3], draft="mix"), at_end=report)
    with pytest.raises(BrokenPipeError):
        run_all(Scheduler(2), works)
    assert len(ended) == 1  # once, though it raises
    assert ended[0].result().draft
    other = next(work for work in works[:2] if work not in ended)
    assert not other.ended
    assert where(SongFolder.open(other.folder.path)) == "sketch"
    assert not works[2].begun
    assert not [work for work in works if (work.folder.path / ".lock").exists()]


def test_a_caller_that_fails_to_add_a_song_ends_the_run_and_no_song(tmp_path: Path) -> None:
    def more() -> bool:
        raise ValueError("a fault of the caller")

    scheduler, works = Scheduler(2, more=more), works_of(folders(tmp_path, DRAFTS[:1], draft="mix"))
    with pytest.raises(ValueError, match="a fault of the caller"):
        run_all(scheduler, works)
    assert not works[0].ended
    assert where(SongFolder.open(works[0].folder.path)) == "sketch"


# Recordings beside an open model


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "ref.wav"
    soundfile.write(path, 0.1 * np.sin(np.arange(2 * CODEC_RATE) / 20), CODEC_RATE)
    return path


@pytest.mark.parametrize(("spare", "beside"), [(1, True), (-1, False)])
def test_a_recording_that_is_not_encoded_whole_beside_the_model_waits(
    spare: int, beside: bool, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = note_engines(monkeypatch)
    rooms: list[tuple[bool, int | None]] = []
    real = phases.encode_inputs

    def encode(folder: SongFolder, parts: EngineFactory, *rest: Any) -> float:
        rooms.append((any(engine.open for engine in engines), parts.room().limit))
        return real(folder, parts, *rest)

    monkeypatch.setattr(phases, "encode_inputs", encode)
    monkeypatch.setattr(draft_turn, "drafts_fit", lambda *_: True)
    taken = 300 * 2**20
    monkeypatch.setattr(draft_turn.DraftTurn, "_open_bytes", property(opened_bytes(taken)))
    whole = encoding_memory(nano_models().codec).bytes_for(2 * CODEC_RATE)
    limited = replace(OPTIONS, max_memory=taken + whole + spare)
    request = replace(DRAFTS[1], reference=Reference(mix=str(recording), start=0.0, end=2.0))
    first, later = (
        works_of(folders(tmp_path, DRAFTS[:1], "mix"), limited),
        works_of(folders(tmp_path, [request], "mix"), limited),
    )
    scheduler = Scheduler(2)

    def add(event: Event) -> None:
        if event.done == 10 and not later[0].begun:
            scheduler.submit(*later)

    first[0]._progress = add
    run_all(scheduler, first)
    assert rooms == [
        (False, limited.max_memory),
        (beside, whole + spare if beside else limited.max_memory),
    ]
    alone = works_of(folders(tmp_path / "alone", [request], "mix"))
    run_all(Scheduler(), alone)
    codes = [work.folder.load_reference() for work in (*later, *alone)]
    np.testing.assert_array_equal(*codes)


def opened_bytes(taken: int) -> Callable[[draft_turn.DraftTurn], int]:
    """`taken` while a model is open."""
    return lambda turn: 0 if turn._engine is None else taken
