"""Running the command line in this process or another, and what the tests of it share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cheap
import numpy as np
import pytest

from nano.codec_weights import CodecSpec
from yuegguf.audio import limiter
from yuegguf.cli import run_in_process
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import new_song_path
from yuegguf.song.record import SongRecord
from yuegguf.song.token_log import HEADER
from yuegguf.stages.stage1_task import Stage1Task

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = tuple(map(str, (ROOT / "tests" / "support", ROOT, ROOT / "tests" / "reliability")))
"""Folders of the tests' modules and of the checkout, for PYTHONPATH."""

Capture = pytest.CaptureFixture[str]
Run = Callable[..., Path]

QUICK = ("--segment-seconds", 1, "--threads", 1, "--seed", 5)
FAST = (*QUICK, "--model", "nano")

GENRE, LYRICS = "warm folk  female\n", "[verse]\nla la\n[chorus]\nlo lo lo\n[outro]\nla"
OURS = ("-g", GENRE, "--lyrics", LYRICS)
FRAMES = 150
"""Frames of the song of OURS and FAST: three sections of a second."""

TWO_SECTIONS = "[verse]\nla la\n[chorus]\nlo lo"
TEXT = ("-g", "pop", "--lyrics", TWO_SECTIONS)

CODEC_SPECS = {
    "nano": CodecSpec(),
    "other": CodecSpec(
        seed=3, acoustic=12, encoder_base=6, decoder_base=32, hubert=64, hubert_conv=24, hubert_ffn=80,
        hubert_layers=3, hubert_groups=16, vocos=40, vocos_blocks=3,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def folder(self) -> Path:
        """The song that a command with --json made."""
        return Path(self.json["folder"])

    @property
    def error(self) -> str:
        """The one error line; fails when there is none, more than one, or a traceback."""
        lines = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        assert "Traceback" not in self.err
        errors = [line for line in lines if line.startswith(("error: ", "stopped"))]
        assert len(errors) == 1, self.err
        return errors[0]


def cli(capsys: Capture, *args: object) -> Result:
    """One command in this process."""
    capsys.readouterr()
    code = run_in_process([str(arg) for arg in args])
    return Result(code, *capsys.readouterr())


def ended(result: Result) -> Result:
    """The result of a command that made a song, which may have a fault: models sample as they like."""
    assert result.code in (0, 6), result.err
    return result


def refused(capsys: Capture, code: int, *args: object) -> str:
    """The one error line of a command that must fail with this exit code and say what to do."""
    result = cli(capsys, *args)
    assert (result.code, result.out) == (code, ""), result
    assert result.err.endswith("\n")
    assert "; " in result.error or " (see: yuegguf" in result.error, "it must say what to do next"
    return result.error.removeprefix("error: ")


def run_refused(capsys: Capture, code: int, out: Path, *args: object) -> str:
    """Call `refused` with a `run`, which must leave no folder behind."""
    said = refused(capsys, code, "run", *args, "-o", out)
    assert not out.exists()
    return said


def start(*args: object, **environment: str) -> subprocess.Popen[str]:
    """One command in a process of its own, with the engines that this process has."""
    program = "cheap" if cheap.installed() else "yuegguf"
    command = [sys.executable, "-m", program, *map(str, args)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((*PROGRAMS, os.environ.get("PYTHONPATH", ""))),
        **environment,
    }
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Result:
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)


def edit_song(folder: Path, **changes: object) -> None:
    """Change fields of a song.json, without its checksum, as a program that does not know of it would."""
    facts = json.loads((folder / "song.json").read_text("utf-8"))
    facts.pop("checksum", None)
    (folder / "song.json").write_text(json.dumps({**facts, **changes}))


def new_song(parent: Path, request: SongRequest | None = None, **facts: Any) -> SongFolder:
    """A song folder in which nothing is sampled yet."""
    asked = request or SongRequest("pop", "[verse]\nla")
    return SongFolder.create(new_song_path(parent, "song"), SongRecord(request=asked, **facts))


def log_of(*entries: str) -> bytes:
    """A token log of these lines, each with its sum."""
    content, total = HEADER, zlib.crc32(HEADER)
    for entry in entries:
        total = zlib.crc32(entry.encode(), total)
        content += b"%s %08x\n" % (entry.encode(), total)
    return content


def song_bytes(folder: Path) -> dict[str, bytes]:
    """Everything that two runs of one song must have in common."""
    names = (
        "tokens.log",
        "stage1.npz",
        "stage2.npz",
        "markers.txt",
        "mix.wav",
        "vocals.wav",
        "instrumental.wav",
    )
    return {name: (folder / name).read_bytes() for name in names}


def limited(wave: np.ndarray, rate: int) -> np.ndarray:
    """A wave [S] behind the limiter."""
    out = wave.copy()
    limiter.limit([out], rate)
    return out


def context_ids(draft: Stage1Task) -> int:
    """Ids of context that a whole draft can take up, so that nothing is dropped."""
    marker = len(draft.prompt.end_of_segment)
    return len(draft.prompt.header) + sum(
        len(p) + 2 * cap + 1 + marker for p, cap in zip(draft.prompt.sections, draft.caps, strict=True)
    )
