"""A cluster that goes on: with batches that fit, machines whose storage came back, and songs that leave."""

from __future__ import annotations

import threading
from pathlib import Path

import cheap
import pytest
from fake_cluster import OPTIONS, FakeCluster, abandoned, cluster_song, driver_of, machine, new_songs

from yuegguf.cluster import control, work
from yuegguf.cluster.placement import need_of
from yuegguf.cluster.unit import Outcome, Report, Unit, UnitSong, error_facts
from yuegguf.errors import Interrupted, StorageError
from yuegguf.pipeline.song_work import SongWork
from yuegguf.progress import Event
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import read_lease

WAIT = 60


def test_as_many_songs_are_computed_together_as_a_machine_holds(tmp_path: Path) -> None:
    songs = [cluster_song(folder) for folder in new_songs(tmp_path, 5)]
    sizes: list[tuple[str, int]] = []
    two = max(need_of([songs[0].plan] * 2, songs[0].facts, phase).memory for phase in ("draft", "refine"))
    assert two < need_of([songs[0].plan] * 3, songs[0].facts, "refine").memory
    cluster = FakeCluster(
        [machine("a", memory=two)], lambda unit, node: sizes.append((unit.phase, len(unit.songs)))
    )
    driver_of(cluster, *songs, parallel=4).run()
    assert all(song.result().files for song in songs)
    assert [count for phase, count in sizes if phase == "refine"][:2] == [2, 2]


def test_a_machine_that_sees_its_storage_again_gets_songs_again(tmp_path: Path) -> None:
    songs = [cluster_song(folder) for folder in new_songs(tmp_path, 3)]
    error = error_facts(StorageError("this machine does not see the folder of songs", "mount it"))
    cluster = FakeCluster([machine("a"), machine("b")])

    def act(unit: Unit, node: str) -> Report | None:
        if node not in cluster.unfit:
            return None
        return Report(node, tuple(Outcome(song.folder, "unfit", error=error) for song in unit.songs))

    cluster._act = act
    cluster.unfit = {"a": error.message, "b": error.message}
    run = driver_of(cluster, *songs)
    while len(run.unfit) < 2:
        run.turn()
    cluster.unfit = {"b": "another version"}
    run.run()
    assert all(song.result().files for song in songs)
    assert run.unfit == {"b": "another version"}
    assert {node for phase, _, node in cluster.ran if phase == "master"} == {"a"}


def test_a_song_that_is_cancelled_leaves_its_unit_while_others_go_on(tmp_path: Path) -> None:
    first, other = (cluster_song(folder) for folder in new_songs(tmp_path, 2))

    def act(unit: Unit, node: str) -> None:
        if unit.phase != "draft":
            return
        place = unit.songs[0].control
        held = [abandoned(song.path, unit.name, machine=node) for song in (first, other)]
        first.cancel()
        run._cancel(first)
        for song in (first, other):
            assert song.look([node], WAIT, 0) == ""
        run._cancel(first)
        assert (first.ended, control.is_cancelled(place, first.path)) == (False, True)
        held[0].release()
        run._cancel(first)
        assert (first.ended, control.is_cancelled(place, first.path)) == (True, False)
        held[1].release()

    run = driver_of(FakeCluster([machine("a")], act), first, other, parallel=2)
    run.run()
    with pytest.raises(Interrupted):
        first.result()
    assert other.result().files


def test_a_unit_gives_a_cancelled_song_back_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap.install(monkeypatch.setattr)
    monkeypatch.setattr(work, "BEAT_SECONDS", 1e-3)
    first, other = new_songs(tmp_path, 2, 2.0, whole=True)
    place, plain = control.open_control(tmp_path, "driver-1"), SongWork.progress
    cancelled, claimed = threading.Event(), list[bool]()
    monkeypatch.setattr(SongWork, "cancel", lambda song: (song._cancelled.set(), cancelled.set()))

    def progress(song: SongWork, event: Event) -> None:
        if song.folder.path == first.path and not cancelled.is_set() and event.done:
            control.ask_to_cancel(place, first.path)
            assert cancelled.wait(WAIT)
        if song.folder.path == other.path and read_lease(first.path) is None and not claimed:
            with SongFolder.open(first.path).claimed():  # another process may delete it, or go on with it
                claimed.append(cancelled.is_set())
        plain(song, event)

    monkeypatch.setattr(SongWork, "progress", progress)
    songs = tuple(UnitSong(str(song.path), place) for song in (first, other))
    report = work.run_unit(Unit("driver-1/1", "draft", songs, OPTIONS, parallel=2), "id", "machine")
    assert [outcome.kind for outcome in report.outcomes] == ["interrupted", "done"]
    assert claimed == [True]
    assert read_lease(other.path) is None
