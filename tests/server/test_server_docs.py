"""The examples of docs/server.md, each tried against a server."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import DOCUMENTS
from helpers import FAST, TEXT, Run
from serving_client import Client, IdleWorker, served

DOCUMENT = DOCUMENTS["docs/server.md"]
ADDRESS = "http://127.0.0.1:8451"
CURL = [
    line.replace("\\\n", "")
    for block in re.findall(r"^```\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^curl (?:.*\\\n)*.*$", block, re.MULTILINE)
]
PYTHON = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
TIMED_OUT = 28
"""Exit code of curl after --max-time, as is meant for events."""


@pytest.fixture
def client(tmp_path: Path, sung: Run) -> Iterator[Client]:
    with served(tmp_path / "songs", IdleWorker) as found:
        shutil.copytree(sung(*TEXT, *FAST), tmp_path / "songs" / "done")
        yield found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("line", CURL, ids=range(len(CURL)))
def test_a_line_of_curl_works(client: Client, recordings: Path, tmp_path: Path, line: str) -> None:
    shutil.copy(recordings / "a.wav", tmp_path / "take.wav")
    here = line.replace(ADDRESS, f"http://127.0.0.1:{client.port}").replace("/ID/", "/done/")
    streams = "/events" in here
    command = [
        *shlex.split(here),
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "1" if streams else "30",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == (TIMED_OUT if streams else 0), done.stderr
    if streams:
        assert "event: status" in done.stdout
    elif "/audio/" in here:
        assert (tmp_path / "done-mix.wav").read_bytes() == (client.songs / "done" / "mix.wav").read_bytes()
    else:
        assert '"object":"song"' in done.stdout


@pytest.mark.parametrize("source", PYTHON, ids=range(len(PYTHON)))
def test_a_program_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    for module in re.findall(r"^import (replicate|httpx)$", source, re.MULTILINE):
        pytest.importorskip(module, reason=f"{module} is not installed")
    monkeypatch.chdir(tmp_path)
    with served(tmp_path / "songs", compat=("cog",), key="KEY") as client:
        names: dict[str, object] = {}
        exec(compile(source.replace(ADDRESS, f"http://127.0.0.1:{client.port}"), "server.md", "exec"), names)
        songs = client("GET", "/v1/songs").json["data"]
        assert [each["status"] for each in songs] == ["succeeded"]
        written = {path.name for path in tmp_path.glob("*.wav")}
        listed = names.get("files") or []
        assert {"mix.wav", "vocals.wav"} <= written | {
            url.partition("?")[0].rpartition("/")[2] for url in listed
        }
        if "api" in names and hasattr(names["api"], "_client"):
            names["api"]._client.close()


def test_examples_are_found() -> None:
    assert len(CURL) >= 4
    assert len(PYTHON) == 2
