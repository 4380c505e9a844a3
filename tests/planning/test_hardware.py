"""The machine: memory in a container, ggml's devices, and what doctor says of them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers import FAST, OURS, Capture, cli

from yuegguf.errors import YueError
from yuegguf.lm import build
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import engines
from yuegguf.planning import hardware

GIB = 2**30
pytestmark = pytest.mark.usefixtures("no_models")


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup of 8 GiB of which 7 are used, 5 of those by page cache, on a machine with 20 free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=20 * GIB, total=64 * GIB))
    (tmp_path / "memory.max").write_text(f"{8 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{7 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {2 * GIB}\nfile {5 * GIB}\ninactive_file {4 * GIB}\n")
    return tmp_path


def test_page_cache_is_free_memory_in_a_container(container: Path) -> None:
    assert hardware.available_memory(container) == 5 * GIB
    (container / "memory.stat").unlink()
    assert hardware.available_memory(container) == 1 * GIB


def test_a_container_has_no_more_than_its_limit_and_its_machine(container: Path) -> None:
    (container / "memory.stat").write_text(f"inactive_file {9 * GIB}\n")  # a moment later than the rest
    assert hardware.available_memory(container) == 8 * GIB
    (container / "memory.max").write_text("max\n")
    assert hardware.available_memory(container) == 20 * GIB
    assert hardware.available_memory(container / "nowhere") == 20 * GIB


@pytest.mark.parametrize(
    ("most", "high", "free"),
    [("max", "6", 3), ("8", "6", 3), ("6", "8", 3), ("8", "max", 5), ("max", "max", 20)],
)
def test_the_lower_of_both_limits_of_a_container_counts(
    most: str, high: str, free: int, container: Path
) -> None:
    for name, text in (("memory.max", most), ("memory.high", high)):
        (container / name).write_text(f"{text if text == 'max' else int(text) * GIB}\n")
    assert hardware.available_memory(container) == free * GIB


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "399999 100000"}, 3),
        ({"cpu.max": "20000 100000"}, 1),
        ({"user.slice/cpu.max": "600000 100000", "user.slice/job/cpu.max": "250000 100000"}, 2),
        ({"user.slice/cpu.max": "200000 100000", "user.slice/job/cpu.max": "max 100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "350000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/docker/cpu.cfs_quota_us": "50000", "cpu/docker/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.max": "nonsense"}, 8),
        ({"cpu.max": "100000 0"}, 8),
    ],
)
def test_cores_are_whole_cpus_within_the_tightest_quota(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: range(8), raising=False)
    monkeypatch.setattr(hardware, "_siblings", str)
    groups = tmp_path / "groups"
    groups.write_text("5:cpu,cpuacct:/docker/ab\n0::/user.slice/job\n")
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert hardware.physical_cores(tmp_path / "cgroup", groups) == cores


GROUPS = {
    "a container": ("{root}/memory", "5:cpu:/\n4:memory:/docker/ab12\n"),
    "a group of processes": ("{root}/memory/user/job", "4:cpuset,memory:/user/job\n"),
    "a group within one that is limited": ("{root}/memory/user", "4:memory:/user/job/step\n"),
    "a group of version 2": ("{root}/user.slice/job", "0::/user.slice/job/step\n"),
}
"""Who sees a limit: its folder, and what the system says of the process."""


@pytest.mark.parametrize("kind", GROUPS)
def test_limits_of_either_version_of_cgroups_hold_also_above_a_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=20 * GIB, total=64 * GIB))
    place, said = GROUPS[kind]
    folder = Path(place.format(root=tmp_path / "cgroup"))
    folder.mkdir(parents=True)
    old = "version 2" not in kind
    files = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    (folder / files[0]).write_text(f"{8 * GIB}\n")
    (folder / files[1]).write_text(f"{7 * GIB}\n")
    stat = f"inactive_file {2 * GIB}\n" + (f"total_inactive_file {4 * GIB}\n" if old else "")
    (folder / "memory.stat").write_text(stat)
    groups = tmp_path / "groups"
    groups.write_text(f"no such line\n{said}")
    assert hardware.available_memory(tmp_path / "cgroup", groups) == (5 if old else 3) * GIB
    (folder / files[0]).write_text(f"{2**63 - 4096}\n" if old else "max\n")  # no limit
    assert hardware.available_memory(tmp_path / "cgroup", groups) == 20 * GIB


def test_available_memory_is_not_the_total(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On macOS too: no Mac was at hand, so its answers are put in."""
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * GIB, total=16 * GIB))
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 12 if logical else 10)
    assert hardware.available_memory(tmp_path) == 3 * GIB
    assert hardware.total_memory() == 16 * GIB
    assert hardware.physical_cores() == 10


@pytest.mark.parametrize("fault", [OSError("no /proc"), psutil.Error("refused"), ValueError("odd")])
def test_memory_that_the_system_does_not_report_is_unknown(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise fault

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    assert hardware.available_memory(tmp_path) is None
    assert hardware.total_memory() is None


def test_a_previews_decoder_is_part_of_the_plan(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed: the seconds are put in."""
    phases = {"draft": 1.0, "refine": 1.0, "master": 1.0}
    monkeypatch.setattr("yuegguf.measure.forecast._phase_seconds", lambda *_args: phases)
    line = ("run", *OURS, *FAST, "--plan", "--json")
    plain, seen = (cli(capsys, *line, *option).json for option in ((), ("--preview",)))
    decoder = (nano_models().codec / "decoder.onnx").stat().st_size
    assert seen["memory"]["draft"] - plain["memory"]["draft"] == decoder > 0
    assert seen["memory"]["refine"] == plain["memory"]["refine"]


def test_ggml_names_the_processor_and_its_memory() -> None:
    found = build.devices()
    assert "CPU" in [device["name"] for device in found]
    for device in found:
        assert set(device) == {"name", "description", "kind", "memory_free", "memory_total"}
        assert device["kind"] == "cpu" or device["name"] != "CPU"
        assert 0 < int(device["memory_free"]) <= int(device["memory_total"])


def test_a_binding_without_ggmls_library_has_no_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "LIBRARIES", tmp_path)
    assert build.devices() == []


def test_doctor_shows_devices_and_the_way_to_a_gpu(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"memory_free": 7 * GIB, "memory_total": 8 * GIB}
    card = {"name": "CUDA0", "description": "Some card", "kind": "gpu", **memory}
    info = build.build_info()
    monkeypatch.setattr(build, "devices", lambda _server=None: [card])
    for gpu in ("yes", "no"):
        monkeypatch.setattr(build, "build_info", lambda gpu=gpu: {**info, "gpu": gpu})
        facts, text = cli(capsys, "doctor", "--json").json, cli(capsys, "doctor").out
        assert facts["devices"] == [card]
        assert "device       CUDA0: Some card, 7.0 GiB free of 8.0 GiB\n" in text
        assert ("CMAKE_ARGS" in text) == ("CMAKE_ARGS" in (facts["gpu_build"] or "")) == (gpu == "no")


BUILD = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | AVX512 = {} | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1 |"


def test_a_build_for_another_processor_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_features", lambda: ["avx", "avx2"])
    assert hardware.missing_features(BUILD.format(0)) == []
    assert hardware.missing_features(BUILD.format(1)) == ["AVX512"]
    monkeypatch.setattr(hardware, "cpu_features", list)
    assert hardware.missing_features(BUILD.format(1)) == []


def test_such_a_build_is_refused_before_a_model_is_opened_and_named_by_doctor(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hardware, "missing_features", lambda _system: ["AVX512"])
    with pytest.raises(YueError, match="built for a processor with AVX512, which this one lacks"):
        engines.check_build()
    report = cli(capsys, "doctor")
    assert "problem      llama.cpp was built for a processor with AVX512" in report.out
    assert report.code == 1


def test_doctor_names_every_format_that_can_be_written(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing: list[str] = []
    monkeypatch.setattr("yuegguf.cli.doctor._is_written", lambda name: name not in missing)
    assert "audio        wav, flac, mp3, opus, m4a\n" in cli(capsys, "doctor").out
    missing.append("m4a")
    assert "audio        wav, flac, mp3, opus (without m4a)\n" in cli(capsys, "doctor").out
