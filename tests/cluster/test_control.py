"""The folder by which a driver and its units speak."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from yuegguf.cluster import control
from yuegguf.cluster.unit import Control
from yuegguf.errors import StorageError


def test_a_machine_with_another_storage_is_refused(tmp_path: Path) -> None:
    place = control.open_control(tmp_path, "driver-1")
    control.check_control(place)
    with pytest.raises(StorageError, match="does not see the folder of songs"):
        control.check_control(Control(place.folder, "another token"))
    control.close_control(place)
    with pytest.raises(StorageError):
        control.check_control(place)
    assert list(tmp_path.iterdir()) == []


def test_the_folders_of_drivers_long_gone_are_removed_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = time.time() + 7 * control.OLD_SECONDS
    monkeypatch.setattr(control, "time", SimpleNamespace(time=lambda: ahead))  # this machine's clock
    old, other = (Path(control.open_control(tmp_path, name).folder) for name in ("old", "other"))
    os.utime(old, (1000, 1000))
    new = control.open_control(tmp_path, "new")
    assert (old.exists(), other.exists()) == (False, True)
    control.close_control(new)
    assert other.exists()


def test_a_request_to_stop_or_cancel_is_for_one_driver_and_one_song(tmp_path: Path) -> None:
    place, other = (control.open_control(tmp_path, name) for name in ("a", "b"))
    song, take = tmp_path / "song-1", tmp_path / "takes-1" / "take-1"
    control.ask_to_cancel(place, song)
    control.ask_to_cancel(place, take)
    assert [control.is_cancelled(place, each) for each in (song, take, tmp_path / "x" / "take-1")] == [
        True,
        True,
        False,
    ]
    assert not control.is_cancelled(other, song)
    control.ask_to_cancel(place, song, take_back=True)
    assert not control.is_cancelled(place, song)
    control.ask_to_stop(place)
    assert (control.is_stopped(place), control.is_stopped(other)) == (True, False)
    control.close_control(other)
    assert control.is_stopped(other)


def test_what_a_driver_writes_is_read_and_a_damaged_file_left_out(tmp_path: Path) -> None:
    first, second = (control.open_control(tmp_path, name) for name in ("a", "b"))
    facts = control.DriverFacts("a", "host", 2, {"n": "why"}, 3, {"song": "reason"})
    control.write_driver(first, facts)
    (Path(second.folder) / control.DRIVER_FILE).write_text("{")
    (found,) = control.read_drivers(tmp_path)
    assert (found.name, found.failed, found.unfit, found.left) == ("a", {"song": "reason"}, {"n": "why"}, 3)
