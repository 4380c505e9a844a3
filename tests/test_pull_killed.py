"""`pull` killed at random bytes and moments: it goes on, and nothing half or damaged becomes a model."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from family import publish
from hub import Fault, Hub, serving

from yuegguf import lockfile

KILLS = 50
WANTED = ("en-cot:Q4_K_M", "s2-general", "xcodec")

ZYGOTE = """
import json, os, signal, sys
sys.path[:0] = json.loads(sys.argv[1])
import family, huggingface_hub.file_download, huggingface_hub.utils, httpx2, llama_cpp, onnxruntime
import yuegguf.checks, yuegguf.cli, yuegguf_convert.lm, yuegguf_onnx_codec.export
family.use(sys.argv[2], setattr, 4096)
signal.signal(signal.SIGINT, signal.default_int_handler)
for line in sys.stdin:
    if not (pid := os.fork()):
        os.dup2(2, 1)
        os._exit(yuegguf.cli._run(json.loads(line)))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""A process that has imported everything and forks a command for each line: one that starts in no time."""


class Commands:
    """Runs commands in processes of their own, and kills them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        command = [sys.executable, "-c", ZYGOTE, json.dumps(sys.path), hub.url]
        self.zygote = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def run(
        self, *args: object, kill_at: int | None = None, kill_after: float = 0.0, number: int = signal.SIGKILL
    ) -> int:
        """The exit code, negative when killed: `kill_after` seconds after `kill_at` bytes have gone out."""
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        begun, fired = self.hub.sent, threading.Event()
        pid = 0

        def look(sent: int) -> None:
            if pid and kill_at is not None and sent - begun >= kill_at and not fired.is_set():
                fired.set()
                self._later(kill_after, pid, number)

        self.hub.on_bytes = look
        self.zygote.stdin.write(json.dumps([str(arg) for arg in args]) + "\n")
        self.zygote.stdin.flush()
        pid = int(self.zygote.stdout.readline())
        look(self.hub.sent)
        code = int(self.zygote.stdout.readline())
        self.hub.on_bytes = lambda sent: None
        return code

    @staticmethod
    def _later(seconds: float, pid: int, number: int) -> None:
        def kill() -> None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

        threading.Timer(seconds, kill).start() if seconds else kill()

    def close(self) -> None:
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.close()
        self.zygote.wait(10)
        self.zygote.stdout.close()


@pytest.fixture
def commands(family: Path) -> Iterator[Commands]:
    with serving(Hub()) as hub:
        publish(hub, family, "en-cot", "s2-general", "xcodec")
        found = Commands(hub)
        try:
            yield found
        finally:
            found.close()


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
    known = {entry["path"]: entry for entry in json.loads(expected[lockfile.NAME])["files"]}
    for name, entry in lockfile.read(root).items():
        assert entry.sha256 == known[name]["sha256"]


def test_fifty_kills(commands: Commands, tmp_path: Path) -> None:
    clean, root = tmp_path / "clean", tmp_path / "models"
    assert commands.run("--models-dir", clean, "pull", *WANTED) == 0
    expected, whole = contents(clean), commands.hub.sent
    assert len(expected) == 7
    draw, kills, seconds = random.Random(5), 0, 0.0
    where: Counter[str] = Counter()
    while kills < KILLS:
        late = draw.random() < 0.5
        moment = {"kill_at": 0, "kill_after": draw.uniform(0.02, 1.2) * max(seconds, 0.4)}
        if not late:
            moment = {"kill_at": draw.randrange(whole // 3), "kill_after": 0.0}
        begun = time.monotonic()
        code = commands.run("--models-dir", root, "pull", *WANTED, **moment)
        assert code in (0, -signal.SIGKILL), code
        kills += code != 0
        check_whole(root, expected)
        where[state(root) if code else "done"] += 1
        if code == 0:
            seconds = time.monotonic() - begun
            assert contents(root) == expected
            shutil.rmtree(root)
    assert min(where["download"], where["staged"], where["installed"]) > 2, where
    assert commands.run("--models-dir", root, "pull", *WANTED) == 0
    assert contents(root) == expected
    assert commands.run("--models-dir", root, "models", "verify") == 0


def test_ten_kills_of_a_kit(commands: Commands, tmp_path: Path) -> None:
    kit, root = tmp_path / "kit", tmp_path / "models"
    assert commands.run("--models-dir", kit, "pull", *WANTED) == 0
    expected = contents(kit)
    draw, kills = random.Random(6), 0
    for _ in range(60):
        code = commands.run(
            "--models-dir", root, "pull", "--from", kit, kill_at=0, kill_after=draw.uniform(0.001, 0.06)
        )
        kills += code != 0
        check_whole(root, expected) if root.exists() else None
        if code == 0:
            assert contents(root) == expected
            shutil.rmtree(root)
        if kills == 10:
            break
    assert kills >= 5
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
