"""Waiting for the charger: the work goes on where it was, and Ctrl-C still ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers import FAST, OURS, Capture, cli, ended, song_bytes

from yuegguf.cli import _signals
from yuegguf.cli._signals import BatteryAwareEvent
from yuegguf.planning import hardware

SONG = (*OURS, *FAST)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_signals, "PAUSE_CHECK_SECONDS", 0.001)
    monkeypatch.setattr(_signals, "CHECK_SECONDS", 0.0)


def battery(monkeypatch: pytest.MonkeyPatch, answers: list[bool]) -> Iterator[bool]:
    """What is said of the battery, look by look; then it charges."""
    looks = iter(answers)
    monkeypatch.setattr(hardware, "on_battery", lambda: next(looks, False))
    return looks


@pytest.mark.parametrize(
    ("plugged", "expected"), [("no battery", False), (True, False), (None, False), (False, True)]
)
def test_a_machine_says_whether_it_runs_on_its_battery(
    plugged: object, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = None if plugged == "no battery" else SimpleNamespace(power_plugged=plugged)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: found, raising=False)
    assert hardware.on_battery() is expected


def test_asking_waits_until_it_charges_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = battery(monkeypatch, [True, True, True, False, False])
    said: list[str] = []
    stop = BatteryAwareEvent(said.append)
    assert not stop.is_set()
    assert list(looks) == [False]
    assert said == ["paused, since the machine runs on its battery; Ctrl-C stops"]
    stop.set()
    battery(monkeypatch, [True] * 3)
    assert stop.is_set()  # at once


def test_a_pause_is_said_once_however_many_threads_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    both, said = threading.Barrier(2, timeout=60), list[str]()

    def look() -> bool:  # each thread sees the battery once, when both wait
        both.wait()
        return next(looks[threading.get_ident()])

    looks = {}
    monkeypatch.setattr(hardware, "on_battery", look)
    stop = BatteryAwareEvent(said.append)

    def ask() -> None:
        looks[threading.get_ident()] = iter([True, False])
        stop.is_set()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1


def test_a_pause_changes_no_byte_of_a_song(
    song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = battery(monkeypatch, [False] * 20 + [True] * 5 + [False] * 20 + [True] * 5)
    result = cli(capsys, "run", *OURS, *FAST, "-o", tmp_path, "--pause-on-battery")
    ended(result)
    assert result.err.count("paused, since") == 2
    assert list(looks) == []
    assert song_bytes(next(tmp_path.iterdir())) == song_bytes(song)


def test_ctrl_c_ends_a_pause(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press() -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return True

    monkeypatch.setattr(hardware, "on_battery", press)
    result = cli(capsys, "run", *OURS, *FAST, "-o", tmp_path, "--pause-on-battery")
    assert result.code == 75
    assert "go on with: yuegguf resume" in result.error


def test_a_process_gives_way_once_and_never_takes_it_back() -> None:
    code = (
        "import os; from yuegguf.planning.hardware import give_way; "
        "give_way(); {}; give_way(); print(os.nice(0))"
    )
    before = max(10, os.nice(0))
    for between, niceness in (("None", before), ("os.nice(5)", min(19, before + 5))):
        told = subprocess.run(
            [sys.executable, "-c", code.format(between)], check=True, capture_output=True, text=True
        )
        assert int(told.stdout) == niceness


@pytest.mark.parametrize(("option", "times"), [((), 1), (("--nice",), 1), (("--no-nice",), 0)])
def test_generating_gives_way_to_other_programs_unless_switched_off(
    capsys: Capture, tmp_path: Path, gave_way: list[int], option: tuple[str, ...], times: int
) -> None:
    ended(cli(capsys, "run", *OURS, *FAST, "-o", tmp_path, "--draft", *option))
    assert len(gave_way) == times
