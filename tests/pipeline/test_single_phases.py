"""A song that is computed phase by phase, each in a scheduler of its own, as machines of a cluster do."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import song_bytes

from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import create
from yuegguf.pipeline.run import run_song
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import silent
from yuegguf.request.prepared import prepare
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import Phase
from yuegguf.song.state import where

OPTIONS = ComputeOptions(threads=1, stage2_rows=2, snapshot_seconds=0)


def songs(parent: Path, count: int, draft: str = "") -> list[SongFolder]:
    return [
        create.start(
            SongJob(
                prepare(SongRequest("pop", "[verse]\nla la", seed=seed, segment_seconds=1.0)),
                nano_models(),
                parent,
                None,
                OPTIONS,
                PreviewOptions(draft),  # type: ignore[arg-type]
            )
        )
        for seed in range(count)
    ]


def run_phase(paths: list[Path], only: tuple[Phase, ...], parallel: int) -> None:
    """Work on one phase of songs whose folders are opened anew."""
    scheduler = Scheduler(parallel)
    works = [SongWork(SongFolder.open(path), nano_models(), OPTIONS, only=only) for path in paths]
    for work in works:
        scheduler.submit(work)
    scheduler.run()
    for work in works:
        work.result()


@pytest.mark.parametrize(("count", "parallel"), [(1, 1), (2, 1), (3, 4)])
def test_a_song_in_single_phases_is_the_song_in_one_run(tmp_path: Path, count: int, parallel: int) -> None:
    whole = songs(tmp_path / "whole", count)
    for song in whole:
        run_song(song, nano_models(), OPTIONS, silent, None)
    paths = [song.path for song in songs(tmp_path / "parts", count)]
    phases: list[tuple[tuple[Phase, ...], Phase]] = [
        (("draft", "sketch"), "refine"),
        (("refine",), "master"),
        (("master",), "done"),
    ]
    for only, following in phases:
        run_phase(paths, only, parallel)
        assert [where(SongFolder.open(path)) for path in paths] == [following] * count
    assert [song_bytes(path) for path in paths] == [song_bytes(song.path) for song in whole]


def test_a_draft_that_was_asked_for_belongs_to_the_phase_of_the_draft(tmp_path: Path) -> None:
    (song,) = songs(tmp_path, 1, draft="mix")
    run_phase([song.path], ("draft", "sketch"), 1)
    assert SongFolder.open(song.path).draft_complete
    assert (song.path / "draft.wav").is_file()
