"""A server by itself: it holds no model and no library of models, and checks songs in another process."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from helpers import PROGRAMS
from serving_client import BODY
from serving_program import REAL, environment, program, resident

from yuegguf.errors import NotEnoughMemory, RequestError, YueError
from yuegguf.models.resolve import ModelChoice
from yuegguf.pipeline import create
from yuegguf.pipeline.song_job import SongJob
from yuegguf.server import forecasting
from yuegguf.server.forecasting import MOST_CHECKS, ForecastProcesses, forecast_json
from yuegguf.server.problems import HttpProblem
from yuegguf.server.song_input import SongInput, read_body
from yuegguf.server.song_parsing import parse_song

MOST_IDLE = 150 << 20
"""Bytes that a server without songs may have in memory."""
LOOK = """
import sys
from pathlib import Path
from serving_client import IdleWorker, served
with served(Path(sys.argv[1]), IdleWorker) as client:
    for path in ("/", "/page/app.js", "/health", "/v1/props", "/v1/models", "/v1/songs", "/metrics"):
        assert client("GET", path).status == 200, path
    print(*{name.partition(".")[0] for name in sys.modules})
"""
"""A program that names what a server imports until its page is shown."""


@pytest.fixture
def job(tmp_path: Path) -> SongJob:
    body = json.dumps(BODY).encode()
    choice = ModelChoice(stage1="nano", models_dir=tmp_path / "no models")
    parsed = parse_song(read_body(body, SongInput), choice, {})
    return SongJob(*create.prepare_song(parsed.request, parsed.choice, lambda event: None), tmp_path)


def test_a_server_without_songs_imports_no_library_of_models(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOOK, str(tmp_path / "songs")]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment()).stdout
    assert {"fastapi", "uvicorn", "sqlite3"} <= {*said.split()}
    assert not {"llama_cpp", "onnxruntime", "onnx", "torch", "scipy", "soxr", "gguf"} & {*said.split()}


def test_an_idle_server_is_small(tmp_path: Path) -> None:
    with program(tmp_path / "songs", module=REAL) as (process, client):
        assert client("GET", "/").status == 200
        size = resident(process.pid)
        if size is None:
            pytest.skip("this system does not tell the memory of a process")
        assert size < MOST_IDLE


def die(_link: Connection, _job: SongJob) -> None:
    raise SystemExit(3)


def refuse(link: Connection, _job: SongJob) -> None:
    link.send(RequestError("no", "yes"))


def test_a_check_in_another_process_is_that_of_this_one(
    job: SongJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(PROGRAMS))
    apart, here = ForecastProcesses()(job), forecast_json(job)
    for name in ("plan", "reasons", "memory", "music", "disk"):
        assert json.dumps(apart[name]) == json.dumps(here[name])


def test_a_check_that_ends_early_is_an_error_of_its_own(
    job: SongJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join((*PROGRAMS, str(Path(__file__).parent))))
    with pytest.raises(NotEnoughMemory, match=r"ended early \(code 3\)"):
        ForecastProcesses(die)(job)
    with pytest.raises(RequestError, match="no; yes"):
        ForecastProcesses(refuse)(job)


def wait(_link: Connection, _job: SongJob) -> None:
    threading.Event().wait()


def answer_and_wait(link: Connection, job: SongJob) -> None:
    link.send({"made": True})
    wait(link, job)


def test_a_check_that_takes_too_long_says_so_and_no_process_is_left(
    job: SongJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join((*PROGRAMS, str(Path(__file__).parent))))
    monkeypatch.setattr(forecasting, "MOST_SECONDS", 0.1)
    with pytest.raises(HttpProblem, match=r"stopped after 0\.1 seconds") as problem:
        ForecastProcesses(wait)(job)
    assert (problem.value.status, problem.value.code) == (503, "check_took_too_long")
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONPATH", ":".join((*PROGRAMS, str(Path(__file__).parent))))
    monkeypatch.setattr(forecasting, "END_SECONDS", 0.1)
    assert ForecastProcesses(answer_and_wait)(job) == {"made": True}
    assert not [child for child in multiprocessing.active_children() if child.name == "yuegguf-check"]


def test_few_checks_wait_for_each_other(job: SongJob, monkeypatch: pytest.MonkeyPatch) -> None:
    checks, begun, go_on = ForecastProcesses(), threading.Semaphore(0), threading.Event()

    def made(_self: ForecastProcesses, _job: SongJob) -> dict[str, bool] | YueError:
        begun.release()
        assert go_on.wait(30)
        return {"made": True}

    monkeypatch.setattr(forecasting.ForecastProcesses, "_made", made)
    answers: list[object] = []
    refused: list[HttpProblem] = []

    def ask() -> None:
        try:
            answers.append(checks(job))
        except HttpProblem as problem:
            refused.append(problem)
            go_on.set()

    threads = [threading.Thread(target=ask) for _ in range(MOST_CHECKS + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [{"made": True}] * MOST_CHECKS
    assert [(each.status, each.code) for each in refused] == [(429, "busy")]
