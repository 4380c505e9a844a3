"""Ray is loaded when a cluster is asked for, and its absence is said; what it prints reaches no result."""

from __future__ import annotations

import io
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import Capture, refused

from yuegguf.cluster.ray_backend import _WithoutRay, connected


@pytest.mark.parametrize("words", [("run", "--queue", "songs.yaml"), ("serve", "--port", "0")])
def test_a_cluster_without_ray_is_refused_with_what_to_install(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    Path("songs.yaml").write_text("songs: [{genre: pop, lyrics: '[verse] la', model: nano}]\n")
    said = refused(capsys, 5, *words, "--cluster", "auto")
    assert said == (
        "a cluster needs Ray, which is not installed; install it with: pip install 'yuegguf[cluster]'"
    )
    assert not Path("songs").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("run", "--example", "--cluster", "auto"), "--cluster belongs to --queue"),
        (
            ("run", "--queue", "songs.yaml", "--spread"),
            "--spread, --kit and --gpu-memory belong to --cluster",
        ),
        (("serve", "--gpu-memory", "80G"), "--spread, --kit and --gpu-memory belong to --cluster"),
    ],
)
def test_options_of_a_cluster_belong_to_one(capsys: Capture, words: tuple[str, ...], problem: str) -> None:
    assert problem in refused(capsys, 2, *words)


def test_lines_of_rays_threads_do_not_reach_stdout() -> None:
    out = io.StringIO()
    with redirect_stdout(_WithoutRay(out)):  # type: ignore[type-var]
        thread = threading.Thread(target=print, args=("a machine is gone",), name="ray_listen_error_messages")
        thread.start()
        thread.join()
        print("a result")
    assert out.getvalue() == "a result\n"


def test_lines_that_ray_kept_back_until_its_end_do_not_follow_a_result(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    ray = SimpleNamespace(init=lambda **options: None, shutdown=lambda: print("(raylet) repeated 3x"))
    monkeypatch.setitem(sys.modules, "ray", ray)
    with connected("auto"):
        print("a result")
    assert capsys.readouterr().out == "a result\n"
