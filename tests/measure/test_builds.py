"""Builds of llama.cpp: which are compared, kept and recommended; pip and the benchmark are scripts here."""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import Capture, cli, refused

from yuegguf.errors import DownloadError, EngineError, RequestError, YueError
from yuegguf.measure import builds
from yuegguf.measure.build_runs import Comparison
from yuegguf.measure.builds import INSTALLED, Variant

PLAIN, BLAS = Variant("plain", "-DGGML_NATIVE=ON"), Variant("OpenBLAS", "-DGGML_BLAS=ON")
PYTHON = """#!{python}
# stands for the Python that runs `-m pip install …` and `-m yuegguf … bench …`
import json, os, pathlib, sys
plan = json.loads(pathlib.Path({plan!r}).read_text())
flags, calls = os.environ.get("CMAKE_ARGS", ""), pathlib.Path({calls!r})
if "pip" in sys.argv:
    with calls.open("a") as file:
        print("pip", flags, sys.argv[-1], file=file)
    target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1])
    (target / "llama_cpp").mkdir(parents=True)
    if flags in plan["broken"]:
        print(plan["broken"][flags])
        sys.exit(1)
    (target / "flags").write_text(flags)
else:
    place = pathlib.Path(os.environ["PYTHONPATH"].split(os.pathsep)[0])
    name = (place / "flags").read_text() if (place / "flags").exists() else ""
    with calls.open("a") as file:
        print("bench", name or "-", *sys.argv[4:], file=file)
    seconds = plan["seconds"][name].pop(0)
    pathlib.Path({plan!r}).write_text(json.dumps(plan))
    if isinstance(seconds, str):
        print(seconds, file=sys.stderr)
        print(json.dumps({{"error": {{"message": seconds, "hint": "do so", "code": 3}}}}))
        sys.exit(3)
    folder = str(place / "llama_cpp") if name else "/installed"
    stages = [{{"song_seconds": seconds - 1}}, {{"song_seconds": 1}}]
    facts = {{"folder": plan.get("folder", folder)}}
    print(json.dumps({{"stages": stages, "llama_cpp": facts, "plan": {{"stage2_rows": 7}}}}))
"""


class Stand:
    """A stand-in for Python in a folder, and what it was called with."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.plan, self.calls_file = folder, folder / "plan.json", folder / "calls"
        self.python = folder / "python"
        text = PYTHON.format(python=sys.executable, plan=str(self.plan), calls=str(self.calls_file))
        self.python.write_text(text, encoding="utf-8")
        self.python.chmod(self.python.stat().st_mode | stat.S_IXUSR)
        self.said: list[str] = []

    def set(
        self, seconds: dict[str, list[float | str]], broken: dict[str, str] | None = None, **more: str
    ) -> None:
        text = json.dumps({"seconds": seconds, "broken": broken or {}, **more})
        self.plan.write_text(text, encoding="utf-8")
        self.calls_file.write_text("", encoding="utf-8")

    @property
    def calls(self) -> list[str]:
        return [line.strip() for line in self.calls_file.read_text("utf-8").splitlines()]

    def comparison(self, version: str = "0.3.36", rounds: int = 2) -> Comparison:
        return Comparison(
            version,
            self.folder / "builds",
            ("bench", "-t", "1"),
            self.said.append,
            rounds=rounds,
            python=str(self.python),
        )


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def folders(stand: Stand) -> list[str]:
    return sorted(path.name for path in (stand.folder / "builds").iterdir() if path.is_dir())


def test_builds_are_timed_in_turns_and_the_faster_one_is_recommended(stand: Stand) -> None:
    stand.set({"": [100, 200], PLAIN.flags: [99, 198], BLAS.flags: [90, 180]})
    report = stand.comparison().run([PLAIN, BLAS])
    assert [call.split()[:2] for call in stand.calls] == [
        ["pip", PLAIN.flags],
        ["pip", BLAS.flags],
        *[["bench", "-"], ["bench", PLAIN.flags], ["bench", BLAS.flags]] * 2,
    ]
    assert stand.calls[0].endswith("llama-cpp-python==0.3.36")
    measured = [call.endswith("bench -t 1 --stage2-batch 7") for call in stand.calls[2:]]
    assert measured == [False, *[True] * 5], "all compute as many rows as the first"
    rows = {row["name"]: row for row in report["variants"]}
    assert {name: row["rounds"] for name, row in rows.items()} == {
        INSTALLED: [100, 200],
        "plain": [99, 198],
        "OpenBLAS": [90, 180],
    }
    assert [rows[name]["ratio"] for name in rows] == pytest.approx([1, 0.99, 0.9])
    assert rows["plain"]["song_seconds"] == 148.5
    assert (report["recommended"], report["cmake_args"]) == ("OpenBLAS", BLAS.flags)
    assert "CMAKE_ARGS=-DGGML_BLAS=ON pip install" in report["command"]
    assert sum("which takes some minutes" in line for line in stand.said) == 2


def test_a_second_comparison_builds_nothing_but_another_version_does(stand: Stand) -> None:
    for version, built in (("0.3.36", 1), ("0.3.36", 0), ("0.3.37", 1)):
        stand.set({"": [10, 10], PLAIN.flags: [10, 10]})
        assert stand.comparison(version).run([PLAIN])["recommended"] is None
        assert sum(call.startswith("pip") for call in stand.calls) == built
    assert len(folders(stand)) == 2


def test_a_build_that_fails_is_left_out_and_built_again_next_time(stand: Stand) -> None:
    log = "cc1plus: a.cpp:3: error: no BLAS\nninja: stopped\nERROR: Failed building wheel"
    stand.set({"": [10, 10], PLAIN.flags: [9, 9]}, {BLAS.flags: log})
    report = stand.comparison().run([BLAS, PLAIN])
    [left_out] = report["left_out"]
    assert left_out["reason"] == "the build failed: cc1plus: a.cpp:3: error: no BLAS"
    assert log in Path(left_out["log"]).read_text("utf-8")
    assert any(left_out["log"] in line for line in stand.said)
    assert report["recommended"] == "plain"
    assert len(folders(stand)) == 1
    stand.set({"": [10, 10], PLAIN.flags: [9, 9], BLAS.flags: [8, 8]})
    assert stand.comparison().run([BLAS, PLAIN])["recommended"] == "OpenBLAS"


def test_what_an_interrupted_build_left_is_not_taken_for_whole(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.set({"": [10, 10], PLAIN.flags: [9, 9]})
    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen.wait", _interrupted_once())
        with pytest.raises(KeyboardInterrupt):
            stand.comparison().run([PLAIN])
    assert folders(stand) == []
    stand.set({"": [10, 10], PLAIN.flags: [9, 9]})
    assert stand.comparison().run([PLAIN])["recommended"] == "plain"
    assert stand.calls[0].startswith("pip")


def _interrupted_once() -> object:
    from subprocess import Popen

    real, seen = Popen.wait, list[int]()

    def wait(process: Popen[bytes], timeout: float | None = None) -> int:
        seen.append(1)
        if len(seen) == 1:
            raise KeyboardInterrupt
        return real(process, timeout)

    return wait


def test_a_benchmark_that_fails_leaves_its_build_out(stand: Stand) -> None:
    stand.set({"": [10, 10], PLAIN.flags: [5, "illegal"], BLAS.flags: [9, 9]})
    report = stand.comparison().run([PLAIN, BLAS])
    assert [row["name"] for row in report["variants"]] == [INSTALLED, "OpenBLAS"]
    assert report["left_out"] == [{"name": "plain", "reason": "the benchmark failed: illegal", "log": ""}]


def test_a_build_that_was_not_the_one_loaded_is_left_out(stand: Stand) -> None:
    stand.set({"": [10, 10], PLAIN.flags: [5, 5]}, folder="/elsewhere")
    report = stand.comparison().run([PLAIN])
    assert report["recommended"] is None
    assert "another llama.cpp than" in report["left_out"][0]["reason"]


def test_the_installed_builds_own_error_is_the_commands(stand: Stand) -> None:
    stand.set({"": ["there is no model"]})
    with pytest.raises(YueError, match="there is no model; do so") as caught:
        stand.comparison().run([])
    assert caught.value.exit_code == 3
    stand.python.write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
    with pytest.raises(EngineError, match="the installed build fails: the benchmark failed: signal 9"):
        stand.comparison().run([])


@pytest.mark.parametrize(
    ("log", "kind", "words"),
    [
        ("ERROR: No matching distribution found for llama-cpp-python==9", DownloadError, "package index"),
        ("ERROR: Could not find a version that satisfies cmake>=3.21", DownloadError, "package index"),
        ("CMake Error:\n  No CMAKE_CXX_COMPILER could be found.", YueError, "C.. compiler and CMake"),
    ],
)
def test_what_no_flags_can_help_ends_the_command(
    stand: Stand, log: str, kind: type[YueError], words: str
) -> None:
    stand.set({"": [10, 10]}, {PLAIN.flags: log})
    with pytest.raises(YueError, match=words) as caught:
        stand.comparison().run([PLAIN])
    assert type(caught.value) is kind
    assert not any(call.startswith("bench") for call in stand.calls)


def test_a_build_never_reads_the_current_folder(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an index, the pip of this Python finds nothing to build."""
    ran = stand.folder / "ran"
    for name in ("pip", "logging"):
        (stand.folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')", encoding="utf-8")
    monkeypatch.chdir(stand.folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DownloadError):
        replace(stand.comparison(), python=sys.executable).run([PLAIN])
    assert not ran.exists()


def test_no_pip_is_said_before_a_build(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.set({"": [10, 10]})
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(YueError, match="no pip to build with"):
        stand.comparison().run([PLAIN])
    assert stand.calls == []


@pytest.mark.parametrize(
    ("own", "other", "winner"),
    [
        ([95, 95], [99, 99], "own"),
        ([95, 96], [99, 99], None),  # 4 % in one round
        ([90, 96], [94, 94], "other"),
        ([94, 94], [90, 90], "other"),
        ([101, 99], [100, 100], None),
    ],
)
def test_a_build_must_save_five_percent_in_every_round(
    own: Sequence[float], other: Sequence[float], winner: str | None
) -> None:
    assert builds.recommended({INSTALLED: [100, 100], "own": own, "other": other}) == winner


def test_variants_have_the_checkouts_flags_and_the_users_last(tmp_path: Path) -> None:
    (tmp_path / "cmake").mkdir()
    assert builds.lean_flags(tmp_path) == ("", "")
    (tmp_path / "cmake" / "llama.cmake").write_text("set(A)", encoding="utf-8")
    lean, recipe = builds.lean_flags(tmp_path)
    assert (lean.split("=")[-1], recipe) == (str(tmp_path / "cmake" / "llama.cmake"), "set(A)")
    found = builds.variants_to_build(
        "-DLEAN=1", ["-DX=Y  -DZ=1", "-DX=Y -DZ=1"], openblas=True, machine="x86_64"
    )
    assert {variant.name: variant.flags for variant in found} == {
        "plain": "-DLEAN=1 -DGGML_NATIVE=ON",
        "without OpenMP": "-DLEAN=1 -DGGML_NATIVE=ON -DGGML_OPENMP=OFF",
        "OpenBLAS": "-DLEAN=1 -DGGML_NATIVE=ON -DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS",
        "-DX=Y -DZ=1": "-DLEAN=1 -DGGML_NATIVE=ON -DX=Y -DZ=1",
    }
    assert [variant.name for variant in builds.variants_to_build("", [])] == [
        "plain",
        "without OpenMP",
    ]
    for arm in ("aarch64", "arm64", "ARM64"):
        assert builds.variants_to_build("", [], machine=arm)[-1].flags == (
            "-DGGML_NATIVE=ON -DGGML_CPU_KLEIDIAI=ON"
        )
    for wrong in ("", "X=Y", "-DX=Y rm", '-DX="'):
        with pytest.raises(RequestError, match="are no flags of CMake"):
            builds.variants_to_build("", [wrong])


def test_a_build_is_kept_for_one_version_set_of_flags_processor_and_recipe() -> None:
    facts = ("1", "cpu", "recipe")
    keys = [PLAIN.key(*facts), BLAS.key(*facts)]
    keys += [PLAIN.key(*facts[:i], "other", *facts[i + 1 :]) for i in range(3)]
    assert len({*keys}) == 5
    assert PLAIN.key(*facts) == Variant("another name", PLAIN.flags).key(*facts)


def test_openblas_is_found_by_its_headers(tmp_path: Path) -> None:
    assert not builds.has_openblas([tmp_path, tmp_path / "none"])
    place = tmp_path / "x86_64-linux-gnu" / "openblas-pthread"
    place.mkdir(parents=True)
    (place / "openblas_config.h").touch()
    assert builds.has_openblas([tmp_path])


def test_the_command_hands_its_options_on_and_reports(
    capsys: Capture, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(stand.folder / "cache"))
    monkeypatch.setattr(sys, "executable", str(stand.python))
    monkeypatch.setattr(builds, "has_openblas", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(builds, "lean_flags", lambda _checkout: ("", ""))
    slow, fast = builds.variants_to_build("", [])
    extra = builds.variants_to_build("", ["-DX=Y"])[-1]
    stand.set({"": [10] * 3, slow.flags: [10] * 3, fast.flags: [9] * 3, extra.flags: [10] * 3})
    words = ("bench", "--builds", "--shape", "nano", "--threads", 1, "--no-flash-attn", "--far", 64)
    words = (*words, "--build-flags", "-DX=Y", "--rounds", 3)
    result = cli(capsys, "--models-dir", stand.folder, *words)
    assert result.code == 0, result.err
    called = [call for call in stand.calls if call.startswith("bench")]
    before, _, options = called[0].partition(" bench ")
    assert (len(called), before) == (12, f"bench - --json --models-dir {stand.folder}")
    given = ("--shape nano", "--far 64", "--no-flash-attn", "--threads 1", "--stages 1,2")
    assert sorted(" ".join(given).split()) == sorted(options.split())
    assert all(pair in options for pair in given)
    assert "OpenBLAS is left out: its headers were not found" in result.err
    lines = result.out.splitlines()
    assert lines[1].startswith("installed        the song 10 s, 1.000 x the installed (1.000, 1.000, 1.000)")
    assert lines[3].startswith("without OpenMP   the song 9 s, 0.900 x")
    assert "without OpenMP is faster; take CMAKE_ARGS='-DGGML_NATIVE=ON -DGGML_OPENMP=OFF':" in lines
    assert "pip install --force-reinstall" in lines[-1]
    stand.set({"": [10] * 2, slow.flags: [10] * 2, fast.flags: [10] * 2})
    again = cli(capsys, "bench", "--builds", "--shape", "nano", "-t", 1).out.splitlines()
    assert again[-1] == "the installed build is as fast as any"
    assert os.listdir(stand.folder / "cache")


@pytest.mark.parametrize(
    ("code", "extra", "words"),
    [
        (2, ("--build-flags", "-DX=Y"), "--build-flags and --rounds need --builds"),
        (5, ("--builds", "--stages", "render"), "no build of llama.cpp changes rendering"),
        (5, ("--builds", "--build-flags", "X"), "'X' are no flags of CMake"),
        (5, ("--builds", "--shape", "stage2", "--quant", "Q9"), "there is no type 'Q9'"),
    ],
)
def test_a_comparison_is_refused_before_anything_is_built(
    capsys: Capture, stand: Stand, code: int, extra: tuple[str, ...], words: str
) -> None:
    shape = () if "--shape" in extra else ("--shape", "nano")
    assert words in refused(capsys, code, "bench", *shape, *extra)
