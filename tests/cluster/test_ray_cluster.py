"""Songs on a real Ray cluster of two machines, here processes; one of them is lost in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cheap_units
import pytest
from helpers import PROGRAMS, Capture, cli, song_bytes

from yuegguf.cli import _cluster
from yuegguf.cluster.ray_backend import RayBackend

SONGS = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that runs one unit at a time, and another machine like it."""
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_enable_worker_prestart", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(PROGRAMS))
        machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            machines.add_node(num_cpus=1)
            yield machines
        finally:
            machines.shutdown()


def queue_of(folder: Path) -> Path:
    """A queue whose songs lie in a folder of their own."""
    songs = [{"name": f"song{seed}", "seed": seed} for seed in range(SONGS)]
    queue = folder / "songs.yaml"
    folder.mkdir()
    queue.write_text(
        "defaults: {model: nano, genre: pop, lyrics: '[verse] la la', segment-seconds: 1, threads: 1,"
        f" stage2-batch: 2, output-dir: {folder / 'songs'}}}\nsongs: {songs}\n"
    )
    return queue


def test_songs_survive_the_loss_of_a_machine_and_are_what_they_are_alone(
    cluster: Any, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = cli(capsys, "run", "--queue", queue_of(tmp_path / "alone"), "--json")
    assert alone.code == 0, alone.err
    monkeypatch.setattr(
        _cluster,
        "RayBackend",
        partial(RayBackend, run=cheap_units.run_and_lose_a_machine, run_part=cheap_units.run_cheap_job),
    )
    queue = queue_of(tmp_path / "together")
    result = cli(capsys, "run", "--queue", queue, "--cluster", cluster.address, "--json")
    assert result.code == 0, result.err
    assert "2 machines see the songs" in result.err
    assert (tmp_path / "together" / "songs" / cheap_units.LOST_FILE).is_file()
    folders = [Path(row["folder"]) for row in result.json["songs"]]
    expected = [song_bytes(Path(row["folder"])) for row in alone.json["songs"]]
    assert [song_bytes(folder) for folder in folders] == expected
    made = sorted(path for path in (tmp_path / "together" / "songs").iterdir() if path.is_dir())
    assert made == sorted(folders)  # none twice, and nothing else
    assert not any((folder / "lease").exists() for folder in folders)
