"""Processes that run a module of the package: they find what this one finds, and not the current folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from yuegguf.files.child import child_environment, module_command


def test_a_module_is_found_as_here_and_never_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timeit.py").write_text("print('canary')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    command = module_command("timeit", "-n", "1", "-r", "1", "pass")
    done = subprocess.run(
        command, capture_output=True, text=True, env=child_environment(), timeout=120, check=True
    )
    assert command[0] == sys.executable
    assert "loop" in done.stdout
    assert "canary" not in done.stdout


def test_folders_that_are_named_come_before_the_others(tmp_path: Path) -> None:
    folders = child_environment(tmp_path)["PYTHONPATH"].split(os.pathsep)
    assert folders == [str(tmp_path), *filter(None, sys.path)]
