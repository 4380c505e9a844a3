"""The bundled family on the real engines: the same song each time, also after kills in every phase."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from adapters import write_peft
from helpers import OURS, Capture, cli, ended, finish, song_bytes, start
from zygote import Moment, Zygote, zygote

from yuegguf.models.resolve import nano_models

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("no_models")]

REQUEST = (*OURS, "--sections", 2, "--segment-seconds", 1.5, "--seed", 3, "--model", "nano")
MACHINE = ("--threads", 2, "--stage2-batch", 2, "--snapshot-every", 30)
MOMENTS = (
    Moment(100, "yuegguf.song.token_log:TokenLog.append"),
    Moment(60, "yuegguf.song.token_log:TokenLog.append"),
    Moment(40, "yuegguf.song.token_log:TokenLog.append"),
    Moment(500, "yuegguf.stages.stage2:best_codes"),
    Moment(2, "soundfile:SoundFile.write"),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote(tmp_path_factory.mktemp("program"), cheap=False) as found:
        yield found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song of a process of its own."""
    line = ("run", *REQUEST, *MACHINE, "-o", tmp_path_factory.mktemp("whole"), "--json")
    return ended(finish(start(*line), timeout=600)).folder


def test_killed_in_every_phase_the_song_is_the_same_to_the_byte(
    program: Zygote, whole: Path, tmp_path: Path
) -> None:
    restored, line = 0, ("run", *REQUEST, "-o", tmp_path)
    for moment in MOMENTS:
        restored += bool(list(tmp_path.glob("*/cache/*/mark.json")))
        killed = program.run(*line, *MACHINE, moment=moment)
        assert killed.code == -signal.SIGKILL, killed.err
        line = ("resume", next(tmp_path.iterdir()))
    assert restored
    folder = ended(program.run(*line, *MACHINE, "--json")).folder
    assert song_bytes(folder) == song_bytes(whole)


def test_sections_last_as_long_as_they_may_and_files_say_so(whole: Path) -> None:
    facts = json.loads((whole / "song.json").read_text("utf-8"))
    frames = sum(round(50 * section["seconds"]) for section in facts["sections"])
    assert 100 <= frames <= 150  # nothing ends before its hundredth id
    for name in ("mix", "vocals", "instrumental"):
        assert soundfile.info(whole / f"{name}.wav").frames == 882 * frames


def test_adapters_references_and_takes_reach_the_engine(
    capsys: Capture, recordings: Path, tmp_path: Path
) -> None:
    base, lora = nano_models().stage1, tmp_path / "opera.gguf"
    peft = write_peft(tmp_path / "opera", base, seed=3, spread=0.1)
    assert cli(capsys, "convert-lora", peft, "--base", base, "-o", lora).code == 0
    asked = ("run", *OURS, "--sections", 1, "--segment-seconds", 1, "--seed", 5, "-m", "nano", "-t", 1)
    logs = []
    for extra in ((), ("--lora", lora), ("--ref", recordings / "a.wav"), ("-n", 2)):
        found = ended(cli(capsys, *asked, "--draft", *extra, "-o", tmp_path / "songs", "--json")).json
        folders = [Path(song["folder"]) for song in found.get("takes", [found])]
        logs += [(folder / "tokens.log").read_bytes() for folder in folders]
    assert len(set(logs)) >= 4  # the first take may be the song alone
