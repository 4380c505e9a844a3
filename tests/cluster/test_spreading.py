"""One song on several machines: waves and stems that are computed apart, and put together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from fake_cluster import abandoned, machine, new_songs
from helpers import edit_song, song_bytes

from yuegguf.cluster import control, work
from yuegguf.cluster.spreading import (
    MOST_TRIES,
    Answer,
    Job,
    JobReport,
    SongPart,
    StemJob,
    WaveJob,
    _Spreading,
    run_job,
)
from yuegguf.cluster.unit import (
    Control,
    Loss,
    ModelPlaces,
    Need,
    Node,
    Outcome,
    Unit,
    UnitPhase,
    UnitSong,
    error_facts,
)
from yuegguf.cluster.work import run_unit
from yuegguf.errors import EngineError, Interrupted
from yuegguf.lm import build, llama
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import phases
from yuegguf.pipeline.engines import engine_factory
from yuegguf.pipeline.preflight import read_models
from yuegguf.pipeline.run import run_song
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import silent
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import read_lease
from yuegguf.stages.render import render

SECONDS = 7.0
"""Length of the song: two chunks a track."""
INFO = build.build_info()
ONE_ROW = ComputeOptions(threads=1, stage2_rows=1, snapshot_seconds=0)


Change = Callable[[Job, int], "Answer | Loss | None"]
"""What becomes of a part, and how many were given out; None = it is computed."""


class FakeHelpers:
    """Machines that compute each part at once, or what a test wants to happen instead."""

    def __init__(self, change: Change = lambda job, call: None, machines: int = 4) -> None:
        self.jobs: list[Job] = []
        self.needs: list[Need] = []
        self.refused: list[frozenset[str]] = []
        self.checks: list[Callable[[], None]] = []
        self._change = change
        self._nodes = [machine(f"m{number}") for number in range(1, machines + 1)]

    def nodes(self) -> list[Node]:
        return self._nodes

    def answers(
        self, jobs: Sequence[Job], need: Need, refused: Collection[str], check: Callable[[], None]
    ) -> Iterator[tuple[int, JobReport | Loss]]:
        self.needs.append(need)
        self.refused.append(frozenset(refused))
        self.checks.append(check)
        check()
        node = next(node.id for node in self._nodes if node.id not in refused)
        for number, job in reversed(list(enumerate(jobs))):  # in any order
            self.jobs.append(job)
            changed = self._change(job, len(self.jobs))
            answer = run_job(job) if changed is None else changed
            yield number, answer if isinstance(answer, Loss) else JobReport(node, answer)


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished song, and one that is drafted only, in `tmp/alone` and `tmp/drafted`."""
    import cheap

    with pytest.MonkeyPatch.context() as patch:
        cheap.install(patch.setattr)
        root = tmp_path_factory.mktemp("drafted")
        (song,) = new_songs(root / "alone", 1, SECONDS, whole=True)
        run_song(song, nano_models(), ONE_ROW, silent, None)
    return root


@pytest.fixture
def song(drafted: Path, tmp_path: Path) -> SongFolder:
    """A new song of the same request."""
    (made,) = new_songs(tmp_path, 1, SECONDS, whole=True)
    return made


@pytest.fixture
def place(tmp_path: Path) -> Control:
    return control.open_control(tmp_path, "driver-1")


def run_phase(
    phase: UnitPhase,
    song: SongFolder,
    place: Control,
    helpers: FakeHelpers,
    refused: frozenset[str] = frozenset(),
) -> Outcome:
    songs = (UnitSong(str(song.path), place),)
    unit = Unit("unit", phase, songs, ONE_ROW, spread=phase != "draft", refused=refused)
    (outcome,) = run_unit(unit, "id", "machine", helpers).outcomes
    return outcome


def alone(drafted: Path) -> dict[str, bytes]:
    return song_bytes(next((drafted / "alone").iterdir()))


def test_a_song_on_several_machines_is_the_song_of_one(
    drafted: Path, song: SongFolder, place: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpers = FakeHelpers()
    for phase in ("draft", "refine", "master"):
        assert run_phase(phase, song, place, helpers).kind == "done"  # type: ignore[arg-type]
    waves = [job.wave for job in helpers.jobs if isinstance(job, WaveJob)]
    assert sorted(waves) == [0, 1, 2, 3]
    assert sorted(job.row for job in helpers.jobs if isinstance(job, StemJob)) == [0, 1]
    assert song_bytes(song.path) == alone(drafted)


def test_the_machine_that_holds_the_folder_opens_no_model_and_the_others_write_nothing(
    drafted: Path, song: SongFolder, place: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_phase("draft", song, place, FakeHelpers())
    plain = llama.LlamaEngine
    opened_by: list[str] = []

    def engine(*args: object) -> object:
        opened_by.append(working[-1])
        return plain(*args)  # type: ignore[arg-type]

    def part(job: Job, call: int) -> Answer:
        before = content(song.path)
        working.append(f"helper {call}")
        answer = run_job(job)
        working.pop()
        assert content(song.path) == before
        return answer

    working = ["holder"]
    monkeypatch.setattr(llama, "LlamaEngine", engine)
    helpers = FakeHelpers(part)
    assert run_phase("refine", song, place, helpers).kind == "done"
    assert opened_by == [f"helper {call}" for call in (1, 2, 3, 4)]
    assert run_phase("master", song, place, helpers).kind == "done"
    assert (len(helpers.jobs), len(opened_by)) == (4 + 2, 4)
    assert song_bytes(song.path) == alone(drafted)


def content(folder: Path) -> dict[Path, bytes]:
    """Each file of a song, but for the signs of life of the machine that holds it."""
    return {
        file: file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "lease" not in file.relative_to(folder).parts
    }


def test_waves_that_are_done_are_not_computed_again(drafted: Path, song: SongFolder, place: Control) -> None:
    run_phase("draft", song, place, FakeHelpers())

    def stopped(job: Job, call: int) -> Answer | None:
        if call == 3:
            raise Interrupted("stopped")
        return None

    first, second = FakeHelpers(stopped), FakeHelpers()
    assert run_phase("refine", song, place, first).kind == "interrupted"
    assert run_phase("refine", song, place, second).kind == "done"
    kept = {job.wave for job in first.jobs[:2] if isinstance(job, WaveJob)}
    again = {job.wave for job in second.jobs if isinstance(job, WaveJob)}
    assert (kept | again, kept & again) == ({0, 1, 2, 3}, set())
    run_phase("master", song, place, FakeHelpers())
    assert song_bytes(song.path) == alone(drafted)


def test_a_part_that_is_lost_or_fails_is_tried_on_another_machine_and_not_without_end(
    drafted: Path, song: SongFolder, place: Control
) -> None:
    run_phase("draft", song, place, FakeHelpers())
    failure = error_facts(EngineError("llama.cpp refused it", "try again"))
    helpers = FakeHelpers(lambda job, call: {1: Loss("its machine is gone"), 2: failure}.get(call))
    assert run_phase("refine", song, place, helpers, refused=frozenset({"m1"})).kind == "done"
    assert len(helpers.jobs) == 4 + 2
    assert helpers.refused == [{"m1"}, {"m1", "m2"}]
    for machines, tries in ((4, MOST_TRIES), (2, 2)):
        never = FakeHelpers(lambda job, call: failure, machines)
        outcome = run_phase("master", song, place, never)
        assert (outcome.kind, outcome.error) == ("failed", failure)
        assert [*map(len, never.refused)] == list(range(MOST_TRIES))
        assert len(never.jobs) == (2 * (tries - 1) + 1 if tries == MOST_TRIES else 2 * tries)
    assert run_phase("master", song, place, FakeHelpers()).kind == "done"
    assert song_bytes(song.path) == alone(drafted)


@pytest.mark.parametrize("reason", ["cancelled", "taken over"])
def test_a_song_that_is_cancelled_or_taken_over_waits_for_no_part(
    song: SongFolder, place: Control, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    run_phase("draft", song, place, FakeHelpers())
    monkeypatch.setattr(work, "BEAT_SECONDS", 1e-3)

    def endless(job: Job, call: int) -> None:
        if reason == "cancelled":
            control.ask_to_cancel(place, song.path)
        else:
            abandoned(song.path, "other/1", read_lease(song.path))
        until = time.monotonic() + 60
        while time.monotonic() < until:  # it ends once nobody waits for it
            helpers.checks[-1]()

    helpers = FakeHelpers(endless)
    assert run_phase("refine", song, place, helpers).kind == {"taken over": "busy"}.get(reason, "interrupted")
    assert len(helpers.jobs) == 1


def test_layers_stay_on_the_gpus_of_other_machines(
    song: SongFolder, place: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build_info", lambda: {**INFO, "gpu": "no"})
    run_phase("draft", song, place, FakeHelpers())
    before = SongFolder.open(song.path).record.plan
    assert before is not None
    edit_song(song.path, plan={**asdict(before), "stage2_gpu_layers": -1})
    helpers = FakeHelpers()
    assert run_phase("refine", song, place, helpers).kind == "done"
    parts = [job.part.plan for job in helpers.jobs]
    assert [part and part.gpu_layers for part in (*parts, SongFolder.open(song.path).record.plan)] == [
        (0, -1)
    ] * (len(parts) + 1)
    assert [need.gpus for need in helpers.needs] == [1.0]


def test_a_single_part_is_computed_where_its_cores_are_reserved(song: SongFolder, place: Control) -> None:
    run_phase("draft", song, place, FakeHelpers())
    helpers, whole = FakeHelpers(), ComputeOptions(threads=1, stage2_rows=4, snapshot_seconds=0)
    unit = Unit("unit", "refine", (UnitSong(str(song.path), place),), whole, spread=True)
    (outcome,) = run_unit(unit, "id", "machine", helpers).outcomes
    assert (outcome.kind, len(helpers.jobs), helpers.needs[0].cpus) == ("done", 1, 1.0)


@pytest.mark.parametrize("silent_row", [0, 1])
def test_the_only_stem_of_a_song_is_what_one_machine_gives(
    drafted: Path, tmp_path: Path, silent_row: int
) -> None:
    folder = SongFolder.open(next((drafted / "alone").iterdir()))
    begun = SongWork(folder, nano_models(), ONE_ROW)
    assert folder.record.plan is not None
    begun.plan, begun.headers = folder.record.plan, read_models(nano_models(), False)
    place = control.open_control(tmp_path, "driver-1")
    part = SongPart(str(folder.path), place, ONE_ROW, ModelPlaces(), begun.plan)
    helpers, codes = FakeHelpers(), folder.load_codes()
    with closing(engine_factory(nano_models(), begun.plan, ONE_ROW, threading.Event()).codec()) as codec:
        spreading = _Spreading(begun, helpers, part, threading.Event(), set())
        apart = spreading.render(codes, codec, silent, silent_row)
        here = render(codes, codec, without=silent_row)
    assert [job.row for job in helpers.jobs if isinstance(job, StemJob)] == [1 - silent_row]
    assert np.array_equal(apart.codec, here.codec)
    assert np.array_equal(apart.upsampled, here.upsampled)
    assert here.upsampled.any()


def test_the_waves_are_those_of_one_machine(song: SongFolder, place: Control) -> None:
    run_phase("draft", song, place, FakeHelpers())
    plan = SongFolder.open(song.path).record.plan
    assert plan is not None
    left = phases.wave_plan(song, replace(plan, stage2_rows=2), silent)
    assert left.rows == 2
    assert [len(wave) for wave in left.waves] == [2, 2]
    assert [chunk.frames for wave in left.waves for chunk in wave] == [300, 300, 50, 50]
    assert left.waves_to_do == (0, 1)
