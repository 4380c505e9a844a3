"""One song on several machines: waves and stems that are computed apart, and put together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fake_cluster import new_songs
from helpers import song_bytes

from yuegguf.cluster import control
from yuegguf.cluster.spreading import MOST_TRIES, Answer, Job, StemJob, WaveJob, run_job
from yuegguf.cluster.unit import Control, Loss, Need, Outcome, Unit, UnitPhase, UnitSong, error_facts
from yuegguf.cluster.work import run_unit
from yuegguf.errors import EngineError, Interrupted
from yuegguf.lm import llama
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import phases
from yuegguf.pipeline.run import run_song
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import silent
from yuegguf.song.folder import SongFolder

SECONDS = 7.0
"""Length of the song: two chunks a track."""
ONE_ROW = ComputeOptions(threads=1, stage2_rows=1, snapshot_seconds=0)


class FakeHelpers:
    """Machines that compute each part at once, or what a test wants to happen instead."""

    def __init__(self, change: Callable[[Job, int], Answer | Loss | None] = lambda job, call: None) -> None:
        self.jobs: list[Job] = []
        self.needs: list[Need] = []
        self._change = change

    def answers(
        self, jobs: Sequence[Job], need: Need, stop: threading.Event
    ) -> Iterator[tuple[int, Answer | Loss]]:
        self.needs.append(need)
        for number, job in reversed(list(enumerate(jobs))):  # in any order
            self.jobs.append(job)
            changed = self._change(job, len(self.jobs))
            yield number, run_job(job) if changed is None else changed


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


def run_phase(phase: UnitPhase, song: SongFolder, place: Control, helpers: FakeHelpers) -> Outcome:
    unit = Unit("unit", phase, (UnitSong(str(song.path), place),), ONE_ROW, spread=phase != "draft")
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
    song: SongFolder, place: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_phase("draft", song, place, FakeHelpers())
    plain = llama.LlamaEngine
    helping: list[bool] = []

    def engine(*args: object) -> object:
        assert helping, "the machine that holds the folder opened a model"
        return plain(*args)  # type: ignore[arg-type]

    def part(job: Job, call: int) -> Answer:
        before = {file.name for file in song.path.rglob("*")}
        helping.append(True)
        answer = run_job(job)
        helping.clear()
        assert {file.name for file in song.path.rglob("*")} == before
        return answer

    monkeypatch.setattr(llama, "LlamaEngine", engine)
    assert run_phase("refine", song, place, FakeHelpers(part)).kind == "done"


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


def test_a_part_that_is_lost_or_fails_is_tried_again_and_not_without_end(
    drafted: Path, song: SongFolder, place: Control
) -> None:
    run_phase("draft", song, place, FakeHelpers())
    failure = error_facts(EngineError("llama.cpp refused it", "try again"))
    helpers = FakeHelpers(lambda job, call: {1: Loss("its machine is gone"), 2: failure}.get(call))
    assert run_phase("refine", song, place, helpers).kind == "done"
    assert len(helpers.jobs) == 4 + 2
    never = FakeHelpers(lambda job, call: failure)
    outcome = run_phase("master", song, place, never)
    assert (outcome.kind, outcome.error) == ("failed", failure)
    assert len(never.jobs) == 2 * (MOST_TRIES - 1) + 1
    assert run_phase("master", song, place, FakeHelpers()).kind == "done"
    assert song_bytes(song.path) == alone(drafted)


def test_one_wave_is_computed_where_the_folder_is_held(song: SongFolder, place: Control) -> None:
    run_phase("draft", song, place, FakeHelpers())
    helpers, whole = FakeHelpers(), ComputeOptions(threads=1, stage2_rows=4, snapshot_seconds=0)
    unit = Unit("unit", "refine", (UnitSong(str(song.path), place),), whole, spread=True)
    (outcome,) = run_unit(unit, "id", "machine", helpers).outcomes
    assert (outcome.kind, helpers.jobs) == ("done", [])


def test_the_waves_are_those_of_one_machine(song: SongFolder, place: Control) -> None:
    run_phase("draft", song, place, FakeHelpers())
    plan = SongFolder.open(song.path).record.plan
    assert plan is not None
    left = phases.wave_plan(song, replace(plan, stage2_rows=2), silent)
    assert left.rows == 2
    assert [len(wave) for wave in left.waves] == [2, 2]
    assert [chunk.frames for wave in left.waves for chunk in wave] == [300, 300, 50, 50]
    assert left.waves_to_do == (0, 1)
