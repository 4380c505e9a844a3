"""Builds of llama.cpp whose kernels for AMX end the process, or miscompute: slower ones are used then."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers import Capture, cli

from yuegguf.lm import amx_trial, build
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import engines
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.plan import Plan

PLAN = Plan(512, 2, 2, 1, "f16", None, 0, 0)
SYSTEM = "CPU : AVX2 = 1 | AVX512_VNNI = 1 | AMX_INT8 = {} | OPENMP = 1 | REPACK = 1 |"


@pytest.fixture(autouse=True)
def untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    engines.may_repack.cache_clear()
    yield
    engines.may_repack.cache_clear()


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[bool | None]:
    """Outcomes of the next trials, on a build that uses AMX."""
    outcomes: list[bool | None] = []
    facts = {**build.build_info(), "system": SYSTEM.format(1)}
    monkeypatch.setattr(build, "build_info", lambda: facts)
    monkeypatch.setattr("yuegguf.planning.hardware.missing_features", lambda _system: [])
    monkeypatch.setattr(amx_trial, "amx_works", lambda _model: outcomes.pop())
    return outcomes


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_build_says_whether_it_uses_amx() -> None:
    assert amx_trial.uses_amx(SYSTEM.format(1))
    assert not amx_trial.uses_amx(SYSTEM.format(0))
    assert not amx_trial.uses_amx(SYSTEM.replace("AMX_INT8 = {} | ", ""))


@pytest.mark.engine
def test_this_build_computes_the_same_with_the_faster_kernels_and_without() -> None:
    """Fails where `make` has built llama.cpp with broken ones."""
    assert amx_trial.amx_works(nano_models().stage2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shell scripts")
@pytest.mark.parametrize(
    ("text", "works"),
    [
        ("exit 0", True),
        ("kill -SEGV $$", False),
        ("kill -ILL $$", False),
        (f"exit {amx_trial.FAILED}", False),
        ("exit 1", None),
        ("kill -INT $$", None),
        ("kill -KILL $$", None),
        ("sleep 60", None),
    ],
)
def test_a_trial_that_crashes_or_differs_means_broken_kernels_and_one_without_an_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, works: bool | None
) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path / "python", text))
    monkeypatch.setattr(amx_trial, "TRIAL_SECONDS", 1.0)
    assert amx_trial.amx_works(nano_models().stage2) is works


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no sessions of processes")
def test_ctrl_c_in_a_terminal_does_not_reach_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"exec '{sys.executable}' -c 'import os; raise SystemExit(os.getsid(0) != os.getpid())'"
    monkeypatch.setattr(sys, "executable", program(tmp_path / "python", text))
    assert amx_trial.amx_works(nano_models().stage2)


def test_a_trial_without_an_end_is_made_again(trials: list[bool | None]) -> None:
    trials.extend([True, None])
    assert not engines.may_repack()
    engines.may_repack.cache_clear()
    assert engines.may_repack()


def test_logits_that_differ_mean_broken_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = np.linspace(0, 100, 101, dtype=np.float32)
    for error, code in ((4.9, 0), (5.1, amx_trial.FAILED), (float("nan"), amx_trial.FAILED)):
        monkeypatch.setattr(amx_trial, "_logits", lambda _model, repack, error=error: plain + error * repack)
        assert amx_trial.main(Path("model.gguf")) == code


def test_kernels_are_tried_once_with_each_build(
    trials: list[bool | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.append(False)
    assert not engines.may_repack()
    engines.may_repack.cache_clear()
    assert not engines.may_repack()  # known from the disk
    engines.may_repack.cache_clear()
    monkeypatch.setattr(build, "build_files", lambda: ((1, 2, 3, 4, 5),))
    trials.append(True)
    assert engines.may_repack()


def test_where_they_are_broken_songs_are_computed_without_and_doctor_says_so(
    trials: list[bool | None], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials.append(False)
    opened: list[bool] = []
    monkeypatch.setattr(
        "yuegguf.lm.llama.LlamaEngine", lambda _path, options, _stop: opened.append(options.repack)
    )
    warnings: list[str] = []
    parts = engines.engine_factory(nano_models(), PLAN, ComputeOptions(), threading.Event(), warnings.append)
    parts.stage1(2, 512)
    parts.stage2(2)
    assert (opened, warnings) == ([False, False], [engines.BROKEN_AMX])
    report = cli(capsys, "doctor")
    assert f"problem      {engines.BROKEN_AMX}" in report.out
    assert report.code == 1


@pytest.mark.engine
def test_a_model_opens_without_the_faster_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "build_info", lambda: {"system": SYSTEM.format(1)})
    monkeypatch.setattr("yuegguf.planning.hardware.missing_features", lambda _system: [])
    monkeypatch.setattr(amx_trial, "amx_works", lambda _model: False)
    parts = engines.engine_factory(nano_models(), PLAN, ComputeOptions(), threading.Event())
    with closing(parts.stage2(1)) as engine:
        assert engine.n_rows == 1
