"""Running the command line in this process or another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from yuegguf.cli import _run
from yuegguf.stages.stage1 import Draft


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one error line; fails when there is none, more than one, or a traceback."""
        lines = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        assert "Traceback" not in self.err
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1, self.err
        return errors[0]


def cli(capsys: pytest.CaptureFixture[str], *args: object) -> Result:
    """One command in this process."""
    capsys.readouterr()
    code = _run([str(arg) for arg in args])
    return Result(code, *capsys.readouterr())


def start(*args: object, **environment: str) -> subprocess.Popen[str]:
    """One command in a process of its own, on one thread."""
    command = [sys.executable, "-m", "yuegguf", *map(str, args)]
    env = {**os.environ, **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Result:
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)


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


def context_ids(draft: Draft) -> int:
    """Ids of context that a whole draft can take up, so that nothing is dropped."""
    marker = len(draft.prompt.end_of_segment)
    return len(draft.prompt.header) + sum(
        len(p) + 2 * cap + 1 + marker for p, cap in zip(draft.prompt.sections, draft.caps, strict=True)
    )
