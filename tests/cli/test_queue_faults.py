"""A queue goes on whatever fails in a song, also what is no error of its own kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Capture, cli, ended

from yuegguf.pipeline import phases, takes
from yuegguf.pipeline.song_job import SongJob
from yuegguf.song.folder import SongFolder

SONGS = """
defaults: {genre: pop, lyrics: "[verse]\\nla", segment-seconds: 1, model: nano, threads: 1, draft: true}
songs: [{name: first}, {name: second}]
"""
FAULT = "this is a fault of yuegguf itself (ValueError: no number)"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    file = tmp_path / "songs.yaml"
    file.write_text(SONGS)
    return file


def fail_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the folder of the first song not be made."""
    real = takes.start

    def start(job: SongJob, named: Callable[[Path], None]) -> list[SongFolder]:
        if job.name == "first":
            raise ValueError("no number")
        return real(job, named)

    monkeypatch.setattr(takes, "start", start)


def fail_at_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the draft of the first song fail."""
    real = phases.encode_inputs

    def encode(folder: SongFolder, *rest: object) -> float:
        if folder.path.name.startswith("first"):
            raise ValueError("no number")
        return real(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(phases, "encode_inputs", encode)


@pytest.mark.parametrize("fail", [fail_at_start, fail_at_draft])
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_fault_of_the_program_in_a_song_is_its_own_result(
    fail: Callable[[pytest.MonkeyPatch], None],
    parallel: int,
    queue: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        fail(patched)
        result = cli(capsys, "run", "--queue", queue, "--parallel", parallel, "--json")
    assert result.code == 1
    assert f"song 1 (first) failed: {FAULT}" in result.err
    assert [song.get("error", {}).get("message") for song in result.json["songs"]] == [FAULT, None]
    ended(cli(capsys, "run", "--queue", queue, "--parallel", parallel))
