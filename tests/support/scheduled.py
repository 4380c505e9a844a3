"""Songs of several kinds for a scheduler, and notes of the engines that it opens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from yuegguf.lm import llama
from yuegguf.lm.llama import EngineOptions
from yuegguf.lm.protocol import SequenceInput
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import create
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.prepared import prepare
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import GuideTrack, SongRequest
from yuegguf.song.folder import SongFolder

OPTIONS = ComputeOptions(threads=1, stage2_rows=3, snapshot_seconds=0)
LYRICS = "[verse]\nla la la\n[chorus]\nlo lo"
FREE = Sampling(guidance_first=1.0, guidance_rest=1.0)
REQUESTS = [
    SongRequest("female pop", LYRICS, seed=1, segment_seconds=1.0),
    SongRequest("rock", "[verse]\nla", seed=2, segment_seconds=2.0, retries=0),
    SongRequest("warm folk, slow", LYRICS, seed=3, segment_seconds=1.0, sampling=FREE),
    SongRequest("instrumental pop", LYRICS, seed=4, segment_seconds=1.0, track=GuideTrack("vocal")),
    SongRequest("jazz", "[verse]\nla\n[bridge]\nli\n[chorus]\nlo", seed=5, segment_seconds=1.0),
]
"""Prompts, lengths, guidance and given tracks of several kinds."""

Songs = list[SongFolder]


def folders(parent: Path, requests: Sequence[SongRequest] = REQUESTS, draft: str = "") -> Songs:
    """New songs."""
    return [create.start(job_of(parent, request, draft)) for request in requests]


def job_of(parent: Path, request: SongRequest, draft: str = "", count: int = 1) -> SongJob:
    """A job of one song, or of takes."""
    preview = PreviewOptions(draft)  # type: ignore[arg-type]
    return SongJob(prepare(request), nano_models(), parent, None, OPTIONS, preview, count)


def works_of(songs: Songs, compute: ComputeOptions = OPTIONS, **options: Any) -> list[SongWork]:
    """Songs with the bundled models for a scheduler."""
    return [SongWork(song, nano_models(), compute, **options) for song in songs]


def run_all(scheduler: Scheduler, works: Sequence[SongWork]) -> None:
    """Submit each song by itself, and run."""
    for work in works:
        scheduler.submit(work)
    scheduler.run()


def outcome(work: SongWork) -> object:
    """The song, or what ended it."""
    try:
        return work.result()
    except Exception as error:
        return error


@dataclass
class Opened:
    """An engine that was opened."""

    stage: str
    options: EngineOptions
    widths: list[int] = field(default_factory=list)
    """Number of sequences in each call."""
    open: bool = True


def note_engines(monkeypatch: pytest.MonkeyPatch) -> list[Opened]:
    """The engines that are opened from now on."""
    seen: list[Opened] = []

    class Noted(llama.LlamaEngine):
        def __init__(
            self, path: Path, options: EngineOptions, stop: Callable[[], bool] = lambda: False
        ) -> None:
            super().__init__(path, options, stop)
            self.noted = Opened(path.stem, options)
            seen.append(self.noted)

        def decode(self, inputs: Sequence[SequenceInput]) -> Any:
            self.noted.widths.append(len(inputs))
            return super().decode(inputs)

        def close(self) -> None:
            self.noted.open = False
            super().close()

    monkeypatch.setattr(llama, "LlamaEngine", Noted)
    return seen
