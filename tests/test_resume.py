"""Kill it anywhere, resume, and get the same bytes (the bundled family, a fixed plan)."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import Result, edit_song, ended, finish, log_of, song_bytes, start

PHASES = ("draft", "refine", "master", "done")
LYRICS = """[verse]
Golden river under the moon
Carry my morning over the hill
[chorus]
Remember the summer night
Moon over the silver sea
"""
MACHINE = ("--threads", 1, "--stage2-batch", 1, "--snapshot-every", 0.2)
REQUEST = (
    "--genre",
    "test pop",
    "--lyrics",
    LYRICS,
    "--segment-seconds",
    5,
    "--seed",
    3,
    "--model",
    "nano",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed song."""
    return Path(made(tmp_path_factory.mktemp("whole")).json["folder"])


def made(parent: Path) -> Result:
    result = finish(start("run", *REQUEST, *MACHINE, "-o", parent, "--json"))
    ended(result)
    return result


def fresh(parent: Path) -> Path:
    """A song folder in which nothing is done yet."""
    process = start("run", *REQUEST, *MACHINE, "-o", parent)
    while not list(parent.glob("*/song.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    end(process, signal.SIGKILL)
    return next(parent.glob("*/song.json")).parent


def end(process: subprocess.Popen[str], how: signal.Signals) -> Result:
    process.send_signal(how)
    return finish(process)


def state(folder: Path) -> str:
    return str(json.loads((folder / "song.json").read_text())["state"])


def draws(folder: Path) -> int:
    log = folder / "tokens.log"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def test_killed_twenty_times_the_song_is_the_same_to_the_byte(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(20)
    folder = fresh(tmp_path)  # the first kill
    moments = [("draft", n, 0.0) for n in sorted(chance.sample(range(1, draws(whole)), 9))]
    moments += [("refine", 0, chance.uniform(0, 0.6)) for _ in range(6)]
    moments += [("master", 0, chance.uniform(0, 0.15)) for _ in range(4)]
    hit = [killed_at(folder, *moment) for moment in moments]
    assert sum(hit[:9]) >= 8
    assert sum(hit[9:15]) >= 4
    assert sum(hit[15:]) >= 1
    ended(finish(start("resume", folder, *MACHINE)))
    assert song_bytes(folder) == song_bytes(whole)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir())


def killed_at(folder: Path, phase: str, count: int, delay: float) -> bool:
    """Resume, wait for a moment of a phase, kill; whether it was still in that phase."""
    process = start("resume", folder, *MACHINE)
    while process.poll() is None and PHASES.index(state(folder)) <= PHASES.index(phase):
        if state(folder) == phase and draws(folder) >= count:
            time.sleep(delay)
            break
        time.sleep(0.002)
    alive = process.poll() is None and state(folder) == phase
    end(process, signal.SIGKILL)
    return alive


def test_ctrl_c_stops_within_a_token_exits_75_and_says_how_to_go_on(whole: Path, tmp_path: Path) -> None:
    process = start("run", *REQUEST, *MACHINE, "-o", tmp_path)
    while not list(tmp_path.glob("*/tokens.log")) or draws(next(tmp_path.iterdir())) < 40:
        time.sleep(0.005)
    folder = next(tmp_path.iterdir())
    before, asked = draws(folder), time.monotonic()
    result = end(process, signal.SIGINT)
    assert result.code == 75
    assert time.monotonic() - asked < 5
    assert draws(folder) - before < 200
    assert result.error == f"error: stopped, everything so far is kept; go on with: yuegguf resume {folder}"
    ended(finish(start("resume", folder, *MACHINE)))
    assert song_bytes(folder) == song_bytes(whole)


def test_json_says_the_exit_code_and_a_tampered_cache_changes_nothing(whole: Path, tmp_path: Path) -> None:
    process = start("run", *REQUEST, *MACHINE, "-o", tmp_path, "--json")
    while not list(tmp_path.glob("*/cache/*/mark.json")):
        assert process.poll() is None
        time.sleep(0.005)
    result = end(process, signal.SIGINT)
    assert (result.code, result.json["error"]["code"]) == (75, 75)
    folder = next(tmp_path.iterdir())
    row = next(folder.glob("cache/*/row0.bin"))
    data = bytearray(row.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\x7f" * 64
    row.write_bytes(data)
    resumed = finish(start("resume", folder, *MACHINE))
    ended(resumed)
    assert "note: a damaged snapshot is left aside" in resumed.err
    assert song_bytes(folder) == song_bytes(whole)


def test_resume_takes_new_machine_options_or_says_why_not(whole: Path, tmp_path: Path) -> None:
    folder = fresh(tmp_path)
    for flags, code, words in (
        (("--max-memory", "1M"), 4, "stage 1 needs about"),
        (("--kv-type", "f32"), 5, "was planned with f16 caches"),
        (("--ctx", 512), 5, "ids of context"),
    ):
        result = finish(start("resume", folder, *flags))
        assert result.code == code
        assert words in result.error
    result = finish(start("resume", folder, "-t", 1, "--stage2-batch", 3))
    ended(result)
    assert "note: another batch or device changes the last bits" in result.err
    assert json.loads((folder / "song.json").read_text())["plan"]["stage2_rows"] == 3
    assert (folder / "tokens.log").read_bytes() == (whole / "tokens.log").read_bytes()


def test_a_lost_mix_is_made_again(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "song"
    shutil.copytree(whole, folder)
    (folder / "mix.wav").unlink()
    ended(finish(start("resume", folder, "-t", 1)))
    assert song_bytes(folder) == song_bytes(whole)


def test_same_request_same_bytes_and_resume_of_a_finished_song_changes_nothing(
    whole: Path, tmp_path: Path
) -> None:
    again = Path(made(tmp_path).json["folder"])
    assert song_bytes(again) == song_bytes(whole)
    before = song_bytes(again)
    result = finish(start("resume", again, "--json"))
    ended(result)
    assert result.json["folder"] == str(again)
    assert song_bytes(again) == before


def test_damaged_log_is_refused_untouched(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "song"
    shutil.copytree(whole, folder)
    edit_song(folder, state="draft")
    (folder / "tokens.log").write_bytes(log_of("section 0", "9999", "1"))
    before = song_bytes(folder)
    result = finish(start("resume", folder))
    assert result.code == 7
    assert "tokens.log is damaged in line 3" in result.error
    assert song_bytes(folder) == before


def test_another_model_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "song"
    shutil.copytree(whole, folder)
    data = json.loads((folder / "song.json").read_text())
    data["models"]["stage2"]["fingerprint"] = "0"
    edit_song(folder, state="refine", models=data["models"])
    result = finish(start("resume", folder))
    assert result.code == 7
    assert "is not the stage2 model that this song was started with" in result.error
