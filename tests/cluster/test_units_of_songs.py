"""Units that the driver makes of songs: several that are computed together, or one that is spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fake_cluster import FakeCluster, cluster_song, driver_of, machine, new_songs

from yuegguf.cluster.placement import COORDINATOR
from yuegguf.cluster.unit import Loss, Unit


def test_songs_that_come_later_fill_the_batches_too(tmp_path: Path) -> None:
    left = [cluster_song(folder) for folder in new_songs(tmp_path, 7)]
    sizes: list[int] = []

    def act(unit: Unit, node: str) -> None:
        if unit.phase == "draft":
            sizes.append(len(unit.songs))

    run = driver_of(FakeCluster([machine("a")], act), left.pop(), parallel=3)

    def more() -> bool:
        if left:
            run.submit(left.pop())
            return True
        return False

    run._more = more
    run.run()
    assert sizes == [3, 3, 1]


def test_songs_that_can_share_a_model_are_one_unit_and_one_in_trouble_is_alone(tmp_path: Path) -> None:
    songs = [cluster_song(folder) for folder in new_songs(tmp_path, 4)]
    sizes: list[tuple[str, int]] = []

    def act(unit: Unit, node: str) -> Loss | None:
        sizes.append((unit.phase, len(unit.songs)))
        return Loss("killed") if len(sizes) == 1 else None

    driver_of(FakeCluster([machine("a")], act), *songs, parallel=4).run()
    assert [count for phase, count in sizes if phase == "draft"] == [4, 1, 1, 1, 1]
    assert all(song.result().files for song in songs)


def test_a_unit_that_is_spread_is_placed_by_what_its_parts_need(tmp_path: Path) -> None:
    drafted = new_songs(tmp_path, 2)
    for folder in drafted:
        folder.save_stage1([4], np.zeros((2, 4), np.int16))
        folder.advance("refine")
    first, second = map(cluster_song, drafted)
    cluster = FakeCluster([machine("small", cpus=0.0)])
    run = driver_of(cluster, first, second, place_seconds=50.0, spread=True)
    run.turn()
    assert len(cluster.waiting) == 0  # it could wait for its parts there, and they nowhere
    run.unfit["bad"] = "another version"
    cluster.machines += [machine("large"), machine("bad")]
    run._options.clock.now += 10  # type: ignore[attr-defined]
    run._submit_units()
    (spread, need, refused), (whole, whole_need, others) = cluster.waiting
    assert (spread.spread, need, refused) == (True, COORDINATOR, {"small", "bad"})
    assert (spread.refused, whole.spread, others) == (refused, False, {"bad"})
    assert whole_need.cpus == 1.0
    cluster.machines = [machine("small", cpus=0.0)]
    run._submit_units()
    assert len(cluster.waiting) == 0  # nor do its parts run there
    cluster.machines = [machine("large")]
    run.run()
    assert first.result().files
    assert second.result().files
