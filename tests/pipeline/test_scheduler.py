"""Many songs on one scheduler: each as if alone, whatever becomes of the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers import song_bytes
from scheduled import OPTIONS, REQUESTS, folders, job_of, note_engines, outcome, run_all, works_of

from yuegguf.errors import DamagedFile, EngineError, Interrupted, RequestError, StorageError, YueError
from yuegguf.lm import llama
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import draft_turn, phases, refine_turn, takes
from yuegguf.pipeline.run import run_song
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.pipeline.song_work import SongWork
from yuegguf.progress import Event, silent
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.state import where


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, bytes]]:
    """`alone(2)` → what that request's song consists of when `run` makes it."""
    parent, made = tmp_path_factory.mktemp("alone"), {}

    def content(number: int) -> dict[str, bytes]:
        if number not in made:
            folder = folders(parent, REQUESTS[number : number + 1])[0]
            run_song(folder, nano_models(), OPTIONS, silent, None)
            made[number] = song_bytes(folder.path)
        return made[number]

    return content


@pytest.mark.parametrize("parallel", [1, 8])
def test_each_song_is_the_same_as_alone(
    parallel: int, tmp_path: Path, alone: Callable[[int], dict[str, bytes]]
) -> None:
    works = works_of(folders(tmp_path))
    run_all(Scheduler(parallel), works)
    for number, work in enumerate(works):
        assert work.result().folder == work.folder.path
        assert song_bytes(work.folder.path) == alone(number), number
        assert not (work.folder.path / ".lock").exists()


def test_songs_join_as_others_leave_and_many_are_in_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = note_engines(monkeypatch)
    songs = folders(tmp_path, [replace(request, track=None) for request in REQUESTS], draft="mix")
    waiting = iter(songs)
    begun: list[SongWork] = []
    scheduler = Scheduler(2, more=lambda: more())

    def more() -> bool:
        song = next(waiting, None)
        if song is None:
            return False
        begun.append(SongWork(song, nano_models(), OPTIONS))
        scheduler.submit(begun[-1])
        return True

    scheduler.run()
    assert [work.folder.path for work in begun] == [song.path for song in songs]
    assert all(work.result().draft for work in begun)
    widths = [width for engine in engines for width in engine.widths]
    assert max(widths) == 4  # two songs with guidance
    assert widths.count(1) + widths.count(2) < len(widths) / 2


@pytest.mark.parametrize(("parallel", "widest"), [(1, [6, 1]), (2, [7])])
def test_takes_count_as_one_song_and_share_a_batch(
    parallel: int, widest: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = note_engines(monkeypatch)
    group = takes.start(job_of(tmp_path, REQUESTS[0], count=3))
    works, other = works_of(group), works_of(folders(tmp_path / "other", REQUESTS[2:3], draft="mix"))
    scheduler = Scheduler(parallel)
    scheduler.submit(*works)
    scheduler.submit(*other)
    scheduler.run()
    assert [max(engine.widths) for engine in engines] == widest  # two sequences a take, one without guidance
    assert len({(work.folder.path / "tokens.log").read_bytes() for work in works}) == 3
    assert all(work.result().draft for work in works)


def test_takes_that_do_not_fit_together_take_turns_and_no_song_passes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_turn, "drafts_fit", lambda needs, *_: len(needs) <= 2)
    engines = note_engines(monkeypatch)
    works = works_of(takes.start(job_of(tmp_path, REQUESTS[0], count=3)))
    other = works_of(folders(tmp_path / "other", REQUESTS[2:3], draft="mix"))
    scheduler = Scheduler(4)
    scheduler.submit(*works)
    scheduler.submit(*other)
    scheduler.run()
    assert [max(engine.widths) for engine in engines] == [4, 3]  # two takes, then the third and the song
    assert all(work.result().draft for work in (*works, *other))


def failing_at(path: Path, error: Exception) -> Callable[[Event], None]:
    """A progress callback that fails in the middle of a draft."""

    def report(event: Event) -> None:
        if event.phase == "draft" and event.done > 20:
            raise error

    return report


def test_a_failing_song_is_its_own_result(
    tmp_path: Path, alone: Callable[[int], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = folders(tmp_path)
    (songs[1].path / "song.json").write_text("{")
    real = phases.refining

    def refining(folder: SongFolder, *rest: object) -> object:
        if folder.path == songs[2].path:
            raise StorageError("the disk is full")
        return real(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(phases, "refining", refining)
    works = works_of(songs)
    works[4] = SongWork(songs[4], nano_models(), OPTIONS, failing_at(songs[4].path, EngineError("it broke")))
    run_all(Scheduler(4), works)
    found = {number: outcome(work) for number, work in enumerate(works)}
    errors = {number: error for number, error in found.items() if isinstance(error, YueError)}
    assert {n: type(error) for n, error in errors.items()} == {
        1: DamagedFile,
        2: StorageError,
        4: EngineError,
    }
    assert {n: error.folder for n, error in errors.items()} == {n: songs[n].path for n in errors}
    assert [song_bytes(songs[n].path) for n in (0, 3)] == [alone(0), alone(3)]
    monkeypatch.setattr(phases, "refining", real)
    again = works_of([SongFolder.open(songs[n].path) for n in (2, 4)])
    run_all(Scheduler(2), again)
    assert [song_bytes(work.folder.path) for work in again] == [alone(2), alone(4)]


def stopping_after(stop: threading.Event, events: int, phase: str) -> Callable[[Event], None]:
    counted = iter(range(events))

    def report(event: Event) -> None:
        if event.phase == phase and next(counted, None) is None:
            stop.set()

    return report


@pytest.mark.parametrize(("events", "phase"), [(150, "draft"), (40, "refine"), (1, "master")])
def test_stopped_songs_go_on_at_their_exact_codes_mixed_with_new_ones(
    events: int, phase: str, tmp_path: Path, alone: Callable[[int], dict[str, bytes]]
) -> None:
    songs, stop = folders(tmp_path, REQUESTS[:3]), threading.Event()
    works = works_of(songs, progress=stopping_after(stop, events, phase))
    run_all(Scheduler(3, stop), works)
    stopped = [work for work in works if isinstance(outcome(work), Interrupted)]
    assert stopped
    assert not [work for work in works if (work.folder.path / ".lock").exists()]
    songs = [SongFolder.open(song.path) for song in songs] + folders(tmp_path, REQUESTS[3:])
    again = works_of(songs[::-1])
    run_all(Scheduler(5), again)
    for number, song in enumerate(songs):
        assert song_bytes(song.path) == alone(number), number


def test_a_cancelled_song_stops_within_a_step_and_the_others_go_on(
    tmp_path: Path, alone: Callable[[int], dict[str, bytes]]
) -> None:
    songs = folders(tmp_path, REQUESTS[:3])
    works: list[SongWork] = []

    def cancel(event: Event) -> None:
        if event.done == 30:
            works[1].cancel()

    works += [SongWork(songs[0], nano_models(), OPTIONS, cancel), *works_of(songs[1:])]
    run_all(Scheduler(3), works)
    assert isinstance(outcome(works[1]), Interrupted)
    assert where(SongFolder.open(songs[1].path)) == "draft"
    assert song_bytes(songs[0].path) == alone(0)
    assert song_bytes(songs[2].path) == alone(2)


def test_another_thread_adds_songs_while_others_are_drafted(
    tmp_path: Path, alone: Callable[[int], dict[str, bytes]]
) -> None:
    songs = folders(tmp_path, REQUESTS[:2])
    scheduler, later = Scheduler(2), works_of(songs[1:])
    adding = threading.Thread(target=lambda: scheduler.submit(later[0]))

    def add(event: Event) -> None:
        if event.done == 10 and event.phase == "draft" and not adding.ident:
            adding.start()
            adding.join()

    first = SongWork(songs[0], nano_models(), OPTIONS, add)
    run_all(scheduler, [first])
    for number, work in enumerate([first, *later]):
        work.result()
        assert song_bytes(work.folder.path) == alone(number)


def test_what_ends_is_reported_once_and_at_once(tmp_path: Path) -> None:
    ended: list[Path] = []
    songs = folders(tmp_path, REQUESTS[:3], draft="mix")
    (songs[0].path / "song.json").write_text("{")
    works = works_of(songs, at_end=lambda work: ended.append(work.folder.path))
    run_all(Scheduler(3), works)
    assert ended[0] == songs[0].path
    assert sorted(ended) == sorted(song.path for song in songs)


def of_seconds(seconds: float, seed: int) -> SongRequest:
    """A song of exactly so many seconds."""
    whole = Sampling(min_new_tokens=round(100 * seconds))
    return SongRequest("pop", "[verse]\nla", seed=seed, segment_seconds=seconds, sampling=whole, retries=0)


def course_of(tmp_path: Path, seconds: Sequence[float], parallel: int) -> list[tuple[int, str]]:
    """Songs of these lengths on a scheduler: each song and phase, in the order in which it begins."""
    course: list[tuple[int, str]] = []

    def note(number: int, event: Event) -> None:
        if event.done and (number, event.phase) not in course:
            course.append((number, event.phase))

    requests = [of_seconds(length, number) for number, length in enumerate(seconds)]
    songs = folders(tmp_path, requests)
    works = [
        SongWork(song, nano_models(), OPTIONS, partial(note, number)) for number, song in enumerate(songs)
    ]
    run_all(Scheduler(parallel), works)
    assert [work.result().seconds for work in works] == list(seconds)
    return course


def test_a_song_that_would_delay_an_older_one_waits_and_none_passes_it(tmp_path: Path) -> None:
    course = course_of(tmp_path, [1.0, 1.5, 2.0, 1.0], 2)
    assert course[:2] == [(0, "draft"), (1, "draft")]
    assert course.index((2, "draft")) > course.index((1, "refine"))
    assert course.index((3, "draft")) > course.index((2, "draft"))
    assert course.index((3, "draft")) < course.index((2, "refine"))


def test_a_song_that_ends_with_the_others_joins_them(tmp_path: Path) -> None:
    course = course_of(tmp_path, [1.0, 3.0, 1.0], 2)
    assert course[:3] == [(0, "draft"), (1, "draft"), (2, "draft")]


def test_songs_that_do_not_fit_into_memory_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def only_one(needs: Sequence[object], *_rest: object) -> bool:
        asked.append(len(needs))
        return False

    monkeypatch.setattr(draft_turn, "drafts_fit", only_one)
    course = course_of(tmp_path, [1.0, 1.0], 8)
    assert course.index((1, "draft")) > course.index((0, "master"))
    assert set(asked) == {2}


def test_songs_of_other_models_take_turns(
    tmp_path: Path, alone: Callable[[int], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = folders(tmp_path, REQUESTS[:3])
    works = works_of(songs)
    works[1] = SongWork(songs[1], nano_models(), replace(OPTIONS, threads=2))
    engines = note_engines(monkeypatch)
    run_all(Scheduler(3), works)
    turns = [(engine.stage, engine.options.threads) for engine in engines]
    # the oldest song's phase is next; the third waits behind the second, then shares no turn with it
    assert turns == [("stage1", 1), ("stage2", 1), ("stage1", 2), ("stage2", 2), ("stage1", 1), ("stage2", 1)]
    assert [max(engine.widths) for engine in engines if engine.stage == "stage1"] == [2, 2, 1]
    assert [song_bytes(song.path) for song in songs] == [alone(number) for number in range(3)]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_model_that_cannot_be_opened_fails_the_songs_of_its_turn(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = llama.LlamaEngine.__init__

    def refuses(self: object, path: Path, *rest: object) -> None:
        if path.stem == stage:
            raise EngineError("llama.cpp could not open it")
        real(self, path, *rest)  # type: ignore[misc]

    monkeypatch.setattr(llama.LlamaEngine, "__init__", refuses)
    works = works_of(folders(tmp_path, REQUESTS[:2]))
    run_all(Scheduler(2), works)
    assert [type(outcome(work)) for work in works] == [EngineError, EngineError]


def test_whatever_fails_before_a_turn_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise RequestError("there is no GPU number 3")

    for module, name in ((draft_turn, "find_devices"), (refine_turn, "rows_for_songs")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, fails)
            works = works_of(folders(tmp_path / name, REQUESTS[:2]))
            run_all(Scheduler(2), works)
        assert "RequestError" in {type(outcome(work)).__name__ for work in works}
        assert all(work.ended for work in works)
