"""Kill it anywhere, resume, and get the same bytes (a fixed plan)."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import edit_song, ended, log_of, song_bytes
from zygote import ANY, Moment, Zygote, zygote

from yuegguf.song.token_log import TokenLog

LYRICS = """[verse]
Golden river under the moon
Carry my morning over the hill
[chorus]
Remember the summer night
Moon over the silver sea
"""
MACHINE = ("--threads", 2, "--stage2-batch", 2, "--snapshot-every", 30)
REQUEST = ("--genre", "test pop", "--lyrics", LYRICS, "--segment-seconds", 4, "--seed", 3, "--model", "nano")
DRAW, PICK, WRITE = (
    "yuegguf.song.token_log:TokenLog.append",
    "yuegguf.stages.stage2:best_codes",
    "soundfile:SoundFile.write",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Commands with engines of exact arithmetic."""
    with zygote(tmp_path_factory.mktemp("program"), cheap=True) as found:
        yield found


@pytest.fixture(scope="module")
def whole(program: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed song."""
    return made(program, tmp_path_factory.mktemp("whole"))


def made(program: Zygote, parent: Path) -> Path:
    return ended(program.run("run", *REQUEST, *MACHINE, "-o", parent, "--json")).folder


def fresh(program: Zygote, parent: Path) -> Path:
    """A song folder in which nothing is done yet."""
    killed = program.run(
        "run", *REQUEST, *MACHINE, "-o", parent, moment=Moment(1, "yuegguf.pipeline.phases:encode_inputs")
    )
    assert killed.code == -signal.SIGKILL, killed.err
    return next(parent.glob("*/song.json")).parent


def state(folder: Path) -> str:
    return str(json.loads((folder / "song.json").read_text())["state"])


def drawn(folder: Path) -> int:
    """Entries of the first section."""
    return len(TokenLog.open(folder / "tokens.log").codes(0))


def check_same(folder: Path, whole: Path) -> None:
    assert song_bytes(folder) == song_bytes(whole)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_killed_in_every_phase_the_song_is_the_same_to_the_byte(
    program: Zygote, whole: Path, tmp_path: Path
) -> None:
    folder = fresh(program, tmp_path)
    moments = [("draft", Moment(count, DRAW)) for count in (1, 40, 7, 90, 2, 150, 33, 120, 60)]
    moments += [("refine", Moment(count, PICK)) for count in (1, 700, 2099, 2101, 500, 3)]
    moments += [("master", Moment(count, WRITE)) for count in (1, 2, 3)]
    restored = 0
    for phase, moment in moments:
        restored += phase == "draft" and bool(list(folder.glob("cache/*/mark.json")))
        killed = program.run("resume", folder, *MACHINE, moment=moment)
        assert killed.code == -signal.SIGKILL, (moment, killed.err)
        assert state(folder) == phase, moment
    assert restored > 3
    ended(program.run("resume", folder, *MACHINE))
    check_same(folder, whole)


def test_killed_at_any_call_of_ours_the_song_is_the_same_to_the_byte(
    program: Zygote, whole: Path, tmp_path: Path
) -> None:
    chance = random.Random(20)
    folder = fresh(program, tmp_path / "0")
    calls = program.calls(ANY, "run", *REQUEST, *MACHINE, "-o", tmp_path / "counted")
    kills, songs = 0, 1
    while kills < 20:
        result = program.run("resume", folder, *MACHINE, moment=Moment(chance.randrange(1, calls // 2)))
        kills += result.code == -signal.SIGKILL
        if result.code != -signal.SIGKILL:
            ended(result)
            check_same(folder, whole)
            folder, songs = fresh(program, tmp_path / str(songs)), songs + 1
    ended(program.run("resume", folder, *MACHINE))
    check_same(folder, whole)


def test_ctrl_c_stops_within_a_token_exits_75_and_says_how_to_go_on(
    program: Zygote, whole: Path, tmp_path: Path
) -> None:
    result = program.run("run", *REQUEST, *MACHINE, "-o", tmp_path, moment=Moment(40, DRAW, signal.SIGINT))
    folder = next(tmp_path.iterdir())
    assert result.code == 75
    assert drawn(folder) in (40, 41)  # a step may bring two draws
    assert result.error == f"stopped, everything so far is kept; go on with: yuegguf resume {folder}"
    ended(program.run("resume", folder, *MACHINE))
    assert song_bytes(folder) == song_bytes(whole)


def test_json_says_the_exit_code_and_a_tampered_cache_changes_nothing(
    program: Zygote, whole: Path, tmp_path: Path
) -> None:
    result = program.run(
        "run", *REQUEST, *MACHINE, "-o", tmp_path, "--json", moment=Moment(150, DRAW, signal.SIGINT)
    )
    assert (result.code, result.json["error"]["code"]) == (75, 75)
    folder = next(tmp_path.iterdir())
    row = next(folder.glob("cache/*/row0.bin"))
    data = bytearray(row.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = b"\x7f" * 64
    row.write_bytes(data)
    resumed = ended(program.run("resume", folder, *MACHINE))
    assert "note: a damaged snapshot is ignored" in resumed.err
    assert song_bytes(folder) == song_bytes(whole)


def test_resume_takes_new_machine_options_or_says_why_not(
    program: Zygote, whole: Path, tmp_path: Path
) -> None:
    folder = fresh(program, tmp_path)
    for flags, code, words in (
        (("--max-memory", "1M"), 4, "stage 1 needs about"),
        (("--kv-type", "f32"), 5, "was planned with f16 caches"),
        (("--ctx", 512), 5, "ids of context"),
    ):
        result = program.run("resume", folder, *flags)
        assert result.code == code
        assert words in result.error
    result = program.run("resume", folder, "-t", 1, "--stage2-batch", 3)
    ended(result)
    assert "note: another batch or device changes the last bits" in result.err
    assert json.loads((folder / "song.json").read_text())["plan"]["stage2_rows"] == 3
    assert (folder / "tokens.log").read_bytes() == (whole / "tokens.log").read_bytes()


def test_a_lost_mix_is_made_again(program: Zygote, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "song"
    shutil.copytree(whole, folder)
    (folder / "mix.wav").unlink()
    ended(program.run("resume", folder, "-t", 1))
    assert song_bytes(folder) == song_bytes(whole)


def test_same_request_same_bytes_and_resume_of_a_finished_song_changes_nothing(
    program: Zygote, whole: Path, tmp_path: Path
) -> None:
    again = made(program, tmp_path)
    assert song_bytes(again) == song_bytes(whole)
    before = song_bytes(again)
    result = program.run("resume", again, "--json")
    ended(result)
    assert result.json["folder"] == str(again)
    assert song_bytes(again) == before


def test_damaged_log_is_refused_untouched(program: Zygote, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "song"
    shutil.copytree(whole, folder)
    edit_song(folder, state="draft")
    (folder / "tokens.log").write_bytes(log_of("section 0", "9999", "1"))
    before = song_bytes(folder)
    result = program.run("resume", folder)
    assert result.code == 7
    assert "tokens.log is damaged in line 3" in result.error
    assert song_bytes(folder) == before


def test_another_model_is_refused(program: Zygote, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "song"
    shutil.copytree(whole, folder)
    data = json.loads((folder / "song.json").read_text())
    data["models"]["stage2"]["fingerprint"] = "0"
    edit_song(folder, state="refine", models=data["models"])
    result = program.run("resume", folder)
    assert result.code == 7
    assert "is not the stage2 model that this song was started with" in result.error
