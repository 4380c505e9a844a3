"""`pull` killed at random bytes and moments: it goes on, and nothing half or damaged becomes a model."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from family import publish
from hub import Fault, Hub, serving
from zygote import ANY, Moment, Zygote, zygote

from yuegguf.models import lockfile

KILLS, MOST_KILLS = 24, 96
"""At least so many, and more until every stage was met, but no more than that."""
STAGES = ("download", "staged", "installed")
WANTED = ("en-cot:Q4_K_M", "s2-general", "xcodec")


class Commands:
    """Runs commands in processes of their own, and stops them."""

    def __init__(self, hub: Hub, program: Zygote) -> None:
        self.hub, self.program = hub, program

    def run(
        self,
        *args: object,
        kill_at: int | None = None,
        number: int = signal.SIGKILL,
        moment: Moment | None = None,
    ) -> int:
        """The exit code, negative when killed: at a moment, or when `kill_at` bytes have gone out."""
        begun, process = self.hub.sent, list[int]()

        def look(sent: int) -> None:
            if process and kill_at is not None and sent - begun >= kill_at:
                with suppress(ProcessLookupError):
                    os.kill(process.pop(), number)

        def started(pid: int) -> None:
            process.append(pid)
            look(self.hub.sent)

        self.hub.on_bytes = look
        code = self.program.run(*args, moment=moment, begun=started).code
        self.hub.on_bytes = lambda sent: None
        return code


@pytest.fixture
def commands(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with serving(Hub()) as hub:
        publish(hub, family, "en-cot", "s2-general", "xcodec")
        with zygote(tmp_path_factory.mktemp("program"), cheap=False, hub=hub.url) as program:
            yield Commands(hub, program)


def contents(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file() and path.name != ".pull.lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def state(root: Path) -> str:
    """How far a killed run had come with the model it was at."""
    if (root / ".staged").exists():
        return "staged"
    return "installed" if list(root.glob("*.gguf")) else "download"


def check_whole(root: Path, expected: dict[str, bytes]) -> None:
    """Every file that has a model's name is right, and the lock says nothing that is not so."""
    for path in (*root.glob("*.gguf"), *root.glob("xcodec/*.onnx")):
        name = path.relative_to(root).as_posix()
        assert path.read_bytes() == expected[name], name
    known = {entry["path"]: entry for entry in json.loads(expected[lockfile.LOCK_NAME])["files"]}
    for name, entry in lockfile.read_lock(root).items():
        assert entry.sha256 == known[name]["sha256"]


def test_kills_at_any_byte_and_call(commands: Commands, tmp_path: Path) -> None:
    clean, root = tmp_path / "clean", tmp_path / "models"
    calls = commands.program.calls(ANY, "--models-dir", clean, "pull", *WANTED)
    expected, whole = contents(clean), commands.hub.sent
    assert len(expected) == 7
    draw, kills = random.Random(5), 0
    where: Counter[str] = Counter()
    while kills < KILLS or (kills < MOST_KILLS and min(where[stage] for stage in STAGES) <= 2):
        if draw.random() < 0.5:
            code = commands.run(
                "--models-dir", root, "pull", *WANTED, moment=Moment(draw.randrange(1, calls // 2))
            )
        else:
            code = commands.run("--models-dir", root, "pull", *WANTED, kill_at=draw.randrange(whole // 3))
        assert code in (0, -signal.SIGKILL), code
        kills += code != 0
        check_whole(root, expected)
        where[state(root) if code else "done"] += 1
        if code == 0:
            assert contents(root) == expected
            shutil.rmtree(root)
    assert min(where[stage] for stage in STAGES) > 2, where
    assert commands.run("--models-dir", root, "pull", *WANTED) == 0
    assert contents(root) == expected
    assert commands.run("--models-dir", root, "models", "verify") == 0


def test_ten_kills_of_a_kit(commands: Commands, tmp_path: Path) -> None:
    kit, root = tmp_path / "kit", tmp_path / "models"
    assert commands.run("--models-dir", kit, "pull", *WANTED) == 0
    expected = contents(kit)
    calls = commands.program.calls(ANY, "--models-dir", tmp_path / "other", "pull", "--from", kit)
    draw, kills = random.Random(6), 0
    while kills < 10:
        code = commands.run(
            "--models-dir", root, "pull", "--from", kit, moment=Moment(draw.randrange(1, calls))
        )
        kills += code != 0
        check_whole(root, expected) if root.exists() else None
        if code == 0:
            assert contents(root) == expected
            shutil.rmtree(root)
    assert commands.run("--models-dir", root, "pull", "--from", kit) == 0
    assert contents(root) == expected


def test_bytes_that_were_here_are_not_fetched_again(commands: Commands, tmp_path: Path) -> None:
    """Ten kills in the download of one model cost no more than what was in flight each time."""
    hub, root = commands.hub, tmp_path / "models"
    assert commands.run("--models-dir", tmp_path / "clean", "pull", "en-cot") == 0
    whole = hub.sent
    hub.sent, hub.faults = 0, [Fault("cdn", "trickle")]  # or the sockets would swallow what is this small
    for _ in range(10):
        commands.run("--models-dir", root, "pull", "en-cot", kill_at=whole // 12)
    assert commands.run("--models-dir", root, "pull", "en-cot") == 0
    assert hub.sent < 1.2 * whole


def test_ctrl_c_stops_at_once_and_says_how_to_go_on(commands: Commands, tmp_path: Path) -> None:
    root, hub = tmp_path / "models", commands.hub
    hub.faults = [Fault("cdn", "trickle")]
    code = commands.run("--models-dir", root, "pull", "en-cot", kill_at=200_000, number=signal.SIGINT)
    assert code == 75
    assert not list(root.glob("*.gguf"))
    hub.faults = []
    assert commands.run("--models-dir", root, "pull", "en-cot") == 0


def test_ctrl_c_and_term_at_any_call(commands: Commands, tmp_path: Path) -> None:
    """Each stops with a sentence and an exit code of its own, leaves nothing half, and the next pull ends."""
    clean, root = tmp_path / "clean", tmp_path / "models"
    calls = commands.program.calls(ANY, "--models-dir", clean, "pull", *WANTED)
    expected, draw, codes = contents(clean), random.Random(7), Counter[int]()
    for number in (signal.SIGINT, signal.SIGTERM) * 3:
        moment = Moment(draw.randrange(1, calls // 2), signal=number)
        result = commands.program.run("--models-dir", root, "pull", *WANTED, moment=moment)
        codes[result.code] += 1
        assert result.code in (0, 75, 130), result
        assert "Traceback" not in result.err
        check_whole(root, expected) if root.exists() else None
        if result.code == 0:
            shutil.rmtree(root)
        else:
            assert result.err.splitlines()[-1].startswith("stopped"), result
    assert codes[75] + codes[130] > 2, codes
    assert commands.run("--models-dir", root, "pull", *WANTED) == 0
    assert contents(root) == expected
