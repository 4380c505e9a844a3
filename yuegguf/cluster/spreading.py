"""One song on several machines: the waves of its refinement and its two stems are computed apart.

A machine that helps reads the song's folder and never writes: it returns codes or waves. A wave is the same
batch as on one machine, so its codes are the same where the processors are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yuegguf.cluster.control import check_control
from yuegguf.cluster.node_models import models_on_node
from yuegguf.cluster.placement import need_of
from yuegguf.cluster.unit import Control, ErrorFacts, Loss, ModelPlaces, Need, Node, error_facts
from yuegguf.codec.protocol import AudioCodec
from yuegguf.errors import Interrupted, YueError
from yuegguf.lm.vocab import stage2_vocab
from yuegguf.pipeline import phases
from yuegguf.pipeline.engines import engine_factory
from yuegguf.pipeline.song_models import check_same
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.plan import Plan
from yuegguf.progress import Event, Progress
from yuegguf.song.folder import SongFolder
from yuegguf.stages.render import TRACKS, Stems, render, silent_stems

MOST_TRIES = 3
"""Machines on which a part of a song is tried."""


@dataclass(frozen=True)
class SongPart:
    """Facts that every part of a song needs."""

    folder: str
    control: Control
    compute: ComputeOptions
    places: ModelPlaces
    plan: Plan | None = None
    """The plan by which it is computed."""
    card_bytes: int | None = None
    """Memory of a GPU of the cluster, see `placement.need_of`."""


@dataclass(frozen=True)
class WaveJob:
    """One wave of a song's refinement."""

    part: SongPart
    refinement: phases.WavePlan
    wave: int


@dataclass(frozen=True)
class StemJob:
    """One stem of a song."""

    part: SongPart
    codes: NDArray[np.int16]
    """Codes [2, 8, T]."""
    row: int
    """0 = vocal, 1 = instrumental."""


Job = WaveJob | StemJob
Answer = Any
"""Codes by their chunk for a WaveJob, the stem's waves at 16 and 44.1 kHz for a StemJob; or ErrorFacts."""


@dataclass(frozen=True)
class JobReport:
    """The answer of a machine."""

    node: str
    """Id of the machine."""
    answer: Answer


class Helpers(Protocol):
    """The machines of the cluster, for a unit that runs on one."""

    def nodes(self) -> list[Node]:
        """The machines that are there now."""

    def answers(
        self, jobs: Sequence[Job], need: Need, refused: Collection[str], check: Callable[[], None]
    ) -> Iterator[tuple[int, JobReport | Loss]]:
        """Number and report of each job, as they end, by machines whose ids are not `refused`.

        Calls `check` again and again; what it raises ends the jobs.
        """


def run_job(job: Job) -> Answer:
    """Compute a part of a song on this machine. It never raises."""
    try:
        check_control(job.part.control)
        folder = SongFolder.open(Path(job.part.folder))
        models = models_on_node(folder, job.part.places)
        check_same(folder, models)
        assert job.part.plan is not None
        parts = engine_factory(models, job.part.plan, job.part.compute, threading.Event())
        if isinstance(job, StemJob):
            codec = parts.codec()
            try:
                stems = render(job.codes, codec, without=1 - job.row)
            finally:
                codec.close()
            return stems.codec[job.row], stems.upsampled[job.row]
        engine = parts.stage2(job.refinement.rows)
        try:
            return job.refinement.refine(job.wave, engine, stage2_vocab(engine.pieces))
        finally:
            engine.close()
    except Exception as error:
        return error_facts(error)


def spread(
    work: SongWork,
    helpers: Helpers,
    part: SongPart,
    stop: threading.Event,
    *,
    refused: Collection[str] = (),
) -> None:
    """Begin with a song whose waves and stems other machines compute, while this one holds its folder.

    Machines whose ids are `refused`, and those on which a part fails, get none. The chunks of all waves are
    in the folder then. A failure ends the song.
    """
    work.begin(stop, layers_here=False)
    if not work.begun or work.ended:
        return
    spreading = _Spreading(work, helpers, replace(part, plan=work.plan), stop, set(refused))
    work.parts = replace(work.parts, render=spreading.render)
    if work.phase == "refine":
        try:
            spreading.refine()
        except Exception as error:
            work.fail(error)


class _Spreading:
    """A song in work here, and the other machines."""

    def __init__(
        self, work: SongWork, helpers: Helpers, part: SongPart, stop: threading.Event, refused: set[str]
    ) -> None:
        self._work, self._helpers, self._part, self._stop = work, helpers, part, stop
        self._refused = refused
        self._failure: YueError | None = None
        """Failure of the last part that has failed."""

    def refine(self) -> None:
        """Put the chunks of all waves that are left into the folder. Raises YueError."""
        work = self._work
        left = phases.wave_plan(work.folder, work.plan, work.progress)
        jobs: list[Job] = [WaveJob(self._part, left, wave) for wave in left.waves_to_do]
        if not jobs:
            return
        begun = time.monotonic()
        total = sum(chunk.frames for wave in left.waves for chunk in wave)
        done = total - sum(chunk.frames for wave in left.waves_to_do for chunk in left.waves[wave])
        for _, codes in self._answers(
            jobs, need_of([work.plan], work.headers.facts, "refine", self._part.card_bytes)
        ):
            for chunk, refined in codes.items():
                work.folder.save_chunk(chunk.track, chunk.start, refined)
                done += chunk.frames
            work.progress(Event("refine", done, total, f"{len(jobs)} waves on several machines"))
        phases.note_seconds(work.folder, "refine", time.monotonic() - begun)

    def render(
        self, codes: NDArray[np.int16], codec: AudioCodec, progress: Progress, without: int | None
    ) -> Stems:
        """The stems as `stages.render.render` gives them, each from another machine."""
        rows = [row for row in range(len(TRACKS)) if row != without]
        jobs: list[Job] = [StemJob(self._part, codes, row) for row in rows]
        frames = codes.shape[2]
        stems = silent_stems(frames)
        for number, (at_codec_rate, upsampled) in self._answers(
            jobs, need_of([self._work.plan], self._work.headers.facts, "master")
        ):
            stems.codec[rows[number]], stems.upsampled[rows[number]] = at_codec_rate, upsampled
        progress(Event("master", frames, frames))
        return stems

    def _answers(self, jobs: Sequence[Job], need: Need) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each job; one that fails or is lost is tried again elsewhere.

        Raises YueError.
        """
        numbers, tries = list(range(len(jobs))), 0
        while numbers:
            tries += 1
            again: list[int] = []
            asked, refused = [jobs[number] for number in numbers], frozenset(self._refused)
            check = partial(self._check, need, refused)
            for place, report in self._helpers.answers(asked, need, refused, check):
                if isinstance(report, JobReport) and not isinstance(report.answer, ErrorFacts):
                    yield numbers[place], report.answer
                    self._check_stop()
                    continue
                self._note_failure(report)
                if tries == MOST_TRIES:
                    assert self._failure is not None
                    raise self._failure
                again.append(numbers[place])
            numbers = again

    def _note_failure(self, report: JobReport | Loss) -> None:
        """Store why a part has failed; a machine on which it did gets no other."""
        if isinstance(report, Loss):
            self._failure = YueError(f"a part of the song was lost ({report.reason})", "try again")
        else:
            self._failure = report.answer.error(self._work.folder.path)
            self._refused.add(report.node)

    def _check(self, need: Need, refused: Collection[str]) -> None:
        """Raise Interrupted once the song is to stop, and its failure where all machines are refused."""
        self._check_stop()
        if self._failure is not None and not any(
            node.holds(need) and node.id not in refused for node in self._helpers.nodes()
        ):
            raise self._failure

    def _check_stop(self) -> None:
        if self._stop.is_set() or self._work.cancelled:
            raise Interrupted("stopped")
