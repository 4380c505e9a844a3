"""The driver of songs on a cluster: bounded retries, lost machines, leases of others, and starting again."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fake_cluster import (
    FakeCluster,
    abandoned,
    cluster_song,
    driver_of,
    failing,
    machine,
    new_songs,
    take_phase,
)

from yuegguf.cluster import control, driver
from yuegguf.cluster.unit import Loss, Outcome, Report, Unit, error_facts
from yuegguf.errors import EngineError, Interrupted, NotEnoughMemory, StorageError, YueError
from yuegguf.song.folder import SongFolder

PHASES = ("draft", "refine", "master")


def test_each_song_takes_each_phase_once_and_the_older_songs_end_first(tmp_path: Path) -> None:
    songs = [cluster_song(folder) for folder in new_songs(tmp_path, 5)]
    cluster = FakeCluster([machine("a"), machine("b")])
    driver_of(cluster, *songs).run()
    assert [song.result().folder for song in songs] == [song.path for song in songs]
    counts = Counter((phase, name) for phase, name, _ in cluster.ran)
    assert counts == {(phase, song.path.name): 1 for song in songs for phase in PHASES}
    assert {node for _, _, node in cluster.ran} == {"a", "b"}
    assert not (tmp_path / control.CLUSTER_FOLDER).exists()


def test_songs_are_begun_only_as_the_cluster_has_room(tmp_path: Path) -> None:
    left = new_songs(tmp_path, 12)
    cluster = FakeCluster([machine("a")])
    run = driver_of(cluster)

    def more() -> bool:
        if left:
            run.submit(cluster_song(left.pop()))
            return True
        return False

    run._more = more
    run.run()
    assert len(cluster.ran) == 36
    assert cluster.most_waiting == driver.SPARE


def test_a_song_that_fails_on_one_machine_is_computed_on_another(tmp_path: Path) -> None:
    (song,) = (cluster_song(folder) for folder in new_songs(tmp_path, 1))
    cluster = FakeCluster(
        [machine("bad"), machine("good")],
        lambda unit, node: failing(unit, node) if node == "bad" else None,
    )
    driver_of(cluster, song).run()
    assert song.result().folder == song.path
    assert Counter(node for _, _, node in cluster.ran)["bad"] <= len(PHASES)


@pytest.mark.parametrize("machines", [1, 2, 9])
def test_a_song_that_fails_everywhere_fails_once_with_its_reason(tmp_path: Path, machines: int) -> None:
    bad, good = (cluster_song(folder) for folder in new_songs(tmp_path, 2))
    name = bad.path.name
    cluster = FakeCluster(
        [machine(f"m{number}") for number in range(machines)],
        lambda unit, node: failing(unit, node) if unit.songs[0].folder.endswith(name) else None,
    )
    ended: list[object] = []
    bad._at_end = ended.append
    driver_of(cluster, bad, good).run()
    with pytest.raises(EngineError, match="refused it on m") as caught:
        bad.result()
    assert (caught.value.folder, ended) == (bad.path, [bad])
    tried = [node for _, song, node in cluster.ran if song == name]
    assert len(tried) == len(set(tried)) == min(machines, driver.MOST_FAILURES)
    assert good.result().folder == good.path


def test_a_lost_unit_is_taken_up_by_another_at_once_although_its_lease_is_there(tmp_path: Path) -> None:
    songs = [cluster_song(folder) for folder in new_songs(tmp_path, 3)]
    lost: list[str] = []

    def act(unit: Unit, node: str) -> Loss | None:
        if unit.phase in lost:
            return None
        lost.append(unit.phase)  # the first unit of each phase dies and leaves its lease
        abandoned(Path(unit.songs[0].folder), unit.name, unit.songs[0].supersede)
        return Loss("its machine is gone")

    cluster = FakeCluster([machine("a"), machine("b")], act)
    driver_of(cluster, *songs).run()
    assert all(song.result().folder == song.path for song in songs)
    assert len(cluster.ran) == 3 * len(PHASES) + len(PHASES)
    assert lost == list(PHASES)


def test_units_that_are_always_lost_end_the_song_after_a_bounded_number(tmp_path: Path) -> None:
    (song,) = (cluster_song(folder) for folder in new_songs(tmp_path, 1))
    cluster = FakeCluster([machine("a")], lambda unit, node: Loss("OutOfMemoryError"))
    driver_of(cluster, song).run()
    with pytest.raises(YueError, match="OutOfMemoryError"):
        song.result()
    assert len(cluster.ran) == driver.MOST_LOSSES


def test_a_song_tells_why_llama_cpp_ended_its_processes(tmp_path: Path) -> None:
    (song,) = (cluster_song(folder) for folder in new_songs(tmp_path, 1))

    def act(unit: Unit, node: str) -> Loss:
        control.note_abort(unit.songs[0].control, unit.name, "llama.cpp gave up (ggml.c:7: no memory)")
        return Loss("WorkerCrashedError")

    driver_of(FakeCluster([machine("a")], act), song).run()
    with pytest.raises(YueError, match=r"\(llama.cpp gave up \(ggml.c:7: no memory\)\);"):
        song.result()


def test_the_lease_of_a_process_that_gives_no_sign_of_life_is_taken_over_in_time(tmp_path: Path) -> None:
    """A driver that is started again after its end finds such leases."""
    (song,) = (cluster_song(folder) for folder in new_songs(tmp_path, 1))
    cluster = FakeCluster([machine("a")])
    run = driver_of(cluster, song, silent_seconds=5.0)
    held = abandoned(song.path, "driver of yesterday/7")
    for _ in range(4):
        run.turn()
        held.beat("draft", 1, 9)
    assert cluster.ran == []  # it lives
    run.run()
    assert song.result().folder == song.path


def test_a_driver_that_is_started_again_goes_on_where_the_songs_are(tmp_path: Path) -> None:
    folders = new_songs(tmp_path, 3)
    first = FakeCluster([machine("a")])
    run = driver_of(first, *(cluster_song(folder) for folder in folders))
    for _ in range(4):  # and then it is killed
        run.turn()
    second = FakeCluster([machine("a")])
    again = [cluster_song(SongFolder.open(folder.path)) for folder in folders]
    driver_of(second, *again).run()
    assert all(song.result().files for song in again)
    both = Counter((phase, name) for phase, name, _ in [*first.ran, *second.ran])
    assert set(both.values()) == {1}
    assert len(both) == 9


def test_a_machine_without_the_storage_gets_no_more_songs(tmp_path: Path) -> None:
    songs = [cluster_song(folder) for folder in new_songs(tmp_path, 3)]

    def act(unit: Unit, node: str) -> Report | None:
        if node != "elsewhere":
            return None
        error = error_facts(StorageError("this machine does not see the folder of songs", "mount it"))
        return Report(node, tuple(Outcome(song.folder, "unfit", error=error) for song in unit.songs))

    cluster = FakeCluster([machine("elsewhere"), machine("here")], act)
    cluster.unfit = {"elsewhere": "this machine does not see the folder of songs"}
    run = driver_of(cluster, *songs)
    run.run()
    assert all(song.result().files for song in songs)
    assert list(run.unfit) == ["elsewhere"]
    alone = [cluster_song(folder) for folder in new_songs(tmp_path / "more", 1)]
    cluster.machines = [machine("elsewhere")]
    driver_of(cluster, *alone).run()
    with pytest.raises(StorageError, match=r"no machine .* does not see the folder of songs"):
        alone[0].result()


def test_a_song_that_no_machine_can_hold_waits_for_one_and_then_says_what_it_needs(tmp_path: Path) -> None:
    small, late = (cluster_song(folder) for folder in new_songs(tmp_path, 2))
    cluster = FakeCluster([machine("small", memory=2**20)])
    driver_of(cluster, small, place_seconds=5.0).run()
    with pytest.raises(NotEnoughMemory, match="no machine of the cluster has 1 cores"):
        small.result()
    run = driver_of(cluster, late, place_seconds=50.0)
    run.turn()
    cluster.machines.append(machine("large"))
    run.run()
    assert {node for _, _, node in cluster.ran} == {"large"}
    assert late.result().files


def test_a_unit_that_waits_for_a_machine_that_is_gone_is_taken_back(tmp_path: Path) -> None:
    (song,) = (cluster_song(folder) for folder in new_songs(tmp_path, 1))
    cluster = FakeCluster([machine("a")])
    run = driver_of(cluster, song, place_seconds=5.0)
    run._submit_units()
    cluster.machines = []
    run._submit_units()
    assert (len(cluster.waiting), song.unit, song.losses) == (0, "", 0)
    cluster.machines = [machine("b")]
    run.run()
    assert song.result().files


@pytest.mark.parametrize("gone", [True, False])
def test_a_unit_of_a_silent_machine_is_given_up_though_the_cluster_says_nothing(
    tmp_path: Path, gone: bool
) -> None:
    (song,) = (cluster_song(folder) for folder in new_songs(tmp_path, 1))
    cluster = FakeCluster([machine("a"), machine("b")])
    run = driver_of(cluster, song, silent_seconds=5.0)
    run._submit_units()
    ((unit, _, _),) = cluster.waiting
    cluster.waiting.clear()  # it is never heard of again
    held = abandoned(song.path, unit.name, machine="a")
    for number in range(4):
        held.beat("draft", number, 9)
        run.turn()
    assert (cluster.ran, song.losses) == ([], 0)
    if gone:
        cluster.machines = [machine("b")]
        run._options = replace(run._options, silent_seconds=1e9)
    run.run()
    assert song.result().files
    assert run._lost == {unit.name}
    run._take(unit.name, Loss("it is said at last"))


def test_a_stop_ends_all_songs_as_interrupted_and_keeps_what_they_have(tmp_path: Path) -> None:
    songs = [cluster_song(folder) for folder in new_songs(tmp_path, 2)]
    stop = threading.Event()
    asked: list[bool] = []

    def act(unit: Unit, node: str) -> Report | None:
        stop.set()
        asked.append(control.is_stopped(unit.songs[0].control))
        return Report(node, tuple(take_phase(unit, song) for song in unit.songs))

    run = driver_of(FakeCluster([machine("a")], act), *songs)
    run._stop = stop
    run.run()
    for song in songs:
        with pytest.raises(Interrupted):
            song.result()
    assert asked[0] is False
    assert all(asked[1:])
    assert SongFolder.open(songs[0].path).state == "refine"


def test_warnings_of_machines_reach_the_user(tmp_path: Path) -> None:
    told: list[str] = []
    (folder,) = new_songs(tmp_path, 1)
    song = cluster_song(folder, progress=lambda event: told.append(event.warning))

    def act(unit: Unit, node: str) -> Report:
        done = take_phase(unit, unit.songs[0])
        return Report(node, (Outcome(done.folder, done.kind, done.phase, warnings=("no snapshots",)),))

    driver_of(FakeCluster([machine("a")], act), song).run()
    assert told == ["no snapshots"] * 3


def test_a_song_that_is_cancelled_ends_alone_and_can_go_on_later(tmp_path: Path) -> None:
    waiting, working, other = (cluster_song(folder) for folder in new_songs(tmp_path, 3))
    asked: list[bool] = []

    def act(unit: Unit, node: str) -> Report | None:
        song = unit.songs[0]
        asked.append(control.is_cancelled(song.control, Path(song.folder)))
        if not asked[-1]:
            return None
        return Report(node, (Outcome(song.folder, "interrupted"),))

    waiting.cancel()
    cluster = FakeCluster([machine("a")], act)
    run = driver_of(cluster, working)
    run._submit_units()
    working.cancel()
    run.submit(waiting, other)
    run.run()
    for song in (waiting, working):
        with pytest.raises(Interrupted):
            song.result()
    assert other.result().files
    assert asked == [True, False, False, False]
    again = cluster_song(SongFolder.open(working.path))
    driver_of(FakeCluster([machine("a")], act), again).run()
    assert again.result().files


def test_a_request_to_cancel_does_not_outlive_a_song_that_ends_otherwise(tmp_path: Path) -> None:
    """It may come again while the driver works on others."""
    song, other = (cluster_song(folder) for folder in new_songs(tmp_path, 2))
    cancelled: list[bool] = []

    def act(unit: Unit, node: str) -> None:
        (part,) = unit.songs
        if part.folder == str(song.path) and unit.phase == "master":
            song.cancel()
            run._cancel(song)
            assert control.is_cancelled(part.control, song.path)  # but its unit does not look any more
        if song.ended:
            cancelled.append(control.is_cancelled(part.control, song.path))

    run = driver_of(FakeCluster([machine("a")], act), song, other)
    run.run()
    assert song.result().files
    assert cancelled == [False]
