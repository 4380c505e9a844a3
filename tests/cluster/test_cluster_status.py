"""`cluster status`: the songs of a folder in one view, from the folder alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from fake_cluster import FakeCluster, abandoned, cluster_song, driver_of, failing, machine, new_songs
from helpers import Capture, cli, refused

from yuegguf.cluster import control, driver
from yuegguf.song.lease import read_lease


def test_each_song_is_shown_with_its_machine_and_its_progress(tmp_path: Path, capsys: Capture) -> None:
    working, silent, waiting = (song.path for song in new_songs(tmp_path, 3))
    abandoned(working, "driver/1").beat("draft", 30, 120, "section 1 of 2")
    abandoned(silent, "driver/2").beat("refine", 1, 2)
    (old,) = (silent / "lease").iterdir()
    for path in (old, old / "holder.json"):
        os.utime(path, (1000, 1000))
    found = cli(capsys, "cluster", "status", tmp_path, "--json").json
    assert found["counts"] == {"working": 1, "silent": 1, "waiting": 1, "done": 0, "failed": 0}
    songs = {Path(song["folder"]): song for song in found["songs"]}
    first = songs[working]
    assert (first["state"], first["machine"], first["share"]) == ("draft", "elsewhere", 0.25)
    assert (first["note"], first["silent"], songs[silent]["silent"]) == ("section 1 of 2", False, True)
    assert (songs[waiting]["state"], songs[waiting]["machine"]) == ("draft", "")
    shown = cli(capsys, "cluster", "status", tmp_path).out.splitlines()
    assert shown[0] == "1 working · 1 silent · 1 waiting · 0 done · 0 failed"
    assert any("25% on elsewhere  section 1 of 2" in line for line in shown)
    assert any("50% on elsewhere, no sign of life" in line for line in shown)
    assert read_lease(working) is not None


def test_the_driver_tells_which_songs_have_failed_and_which_machines_get_none(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "REPORT_SECONDS", 0.0)
    bad, good = (cluster_song(folder) for folder in new_songs(tmp_path, 2))
    cluster = FakeCluster(
        [machine("a"), machine("b")],
        lambda unit, node: failing(unit, node) if unit.songs[0].folder == str(bad.path) else None,
    )
    run = driver_of(cluster, bad, good)
    cluster.unfit = {"b": "another storage"}
    run.unfit |= cluster.unfit
    while not (bad.ended and good.ended):
        run.turn()
    found = cli(capsys, "cluster", "status", tmp_path, "--json").json
    assert found["counts"] == {"working": 0, "silent": 0, "waiting": 0, "done": 1, "failed": 1}
    problems = {song["folder"]: song["problem"] for song in found["songs"]}
    assert problems == {str(bad.path): "llama.cpp refused it on a", str(good.path): ""}
    (facts,) = found["drivers"]
    assert (facts["name"], facts["machines"], facts["left"]) == (run.name, 1, 0)
    assert facts["unfit"] == {"b": "another storage"}
    run.run()
    assert control.read_drivers(tmp_path) == []


def test_the_folders_own_state_wins_over_what_a_driver_has_said_before(
    tmp_path: Path, capsys: Capture
) -> None:
    """A driver that was killed leaves its file."""
    done, gone_on, failed = songs = new_songs(tmp_path, 3)
    driver_of(FakeCluster([machine("a")]), cluster_song(done)).run()
    gone_on.save_stage1([4], np.zeros((2, 4), np.int16))
    gone_on.advance("refine")
    place = control.open_control(tmp_path, "driver-1")
    facts = control.DriverFacts("driver-1", "h", 1, {}, 0, {str(song.path): "no memory" for song in songs})
    control.write_driver(place, facts)
    for file, changed in (
        (done.path / "song.json", 1000),  # whatever was said of it
        (failed.path / "song.json", 1000),
        (Path(place.folder) / control.DRIVER_FILE, 2000),
        (gone_on.path / "song.json", 3000),
    ):
        os.utime(file, (changed, changed))
    found = cli(capsys, "cluster", "status", tmp_path, "--json").json
    states = {Path(song["folder"]): (song["state"], song["problem"]) for song in found["songs"]}
    assert states == {
        done.path: ("done", ""),
        gone_on.path: ("refine", ""),
        failed.path: ("failed", "no memory"),
    }
    assert found["counts"] == {"working": 0, "silent": 0, "waiting": 1, "done": 1, "failed": 1}


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert "there is no folder" in refused(capsys, 5, "cluster", "status", tmp_path / "none")
