"""Songs that go on with another GPU than they were planned for, or without one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers import FAST, OURS, Capture, Run, cli, edit_song, ended, refused, song_bytes
from scheduled import OPTIONS, REQUESTS, folders, note_engines, run_all, works_of

from yuegguf.errors import YueError
from yuegguf.lm import build
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import engines
from yuegguf.pipeline.preflight import read_models
from yuegguf.pipeline.scheduler import Scheduler
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.plan import Plan
from yuegguf.song.folder import SongFolder

GIB, MIB = 2**30, 2**20
INFO = build.build_info()
NOTE = "note: the song, begun with layers on a GPU, of which llama.cpp finds none here, goes on on the CPU"
See = Callable[..., None]


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> See:
    """Have llama.cpp see GPUs with so many bytes free."""

    def cards(*free: int) -> None:
        found = [{"kind": "gpu", "memory_free": each} for each in free]
        monkeypatch.setattr(build, "devices", lambda _server=None: found)
        monkeypatch.setattr(build, "build_info", lambda: {**INFO, "gpu": "yes" if free else "no"})

    return cards


def plan_of(song: Path) -> Plan:
    plan = SongFolder.open(song).record.plan
    assert plan is not None
    return plan


@pytest.fixture
def on_gpu(run: Run, tmp_path: Path) -> Path:
    """A draft that was planned on a GPU with 32 rows."""
    song = Path(shutil.copytree(run(*OURS, *FAST, "--draft"), tmp_path / "song"))
    layers = {"stage1_gpu_layers": -1, "stage2_gpu_layers": -1, "gpu_memory": GIB}
    changed = {"stage2_rows": 32, "flash_attention": True, "ubatch": 512, "memory": 1, **layers}
    edit_song(song, plan={**asdict(plan_of(song)), **changed})
    return song


def test_a_song_without_its_gpu_goes_on_here_within_the_memory(
    on_gpu: Path, see: See, sung: Run, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    see()
    before = plan_of(on_gpu)
    facts = read_models(nano_models()).stage2.facts
    opened = note_engines(monkeypatch)
    said = refused(capsys, 4, "refine", on_gpu, "--max-memory", 160 * MIB)
    assert "stage 2 needs about 0.2 GiB and --max-memory allows 0.2 GiB" in said
    assert (plan_of(on_gpu), opened) == (before, [])
    result = ended(cli(capsys, "refine", on_gpu, "--max-memory", GIB))
    assert result.err.count(f"{NOTE}; that may change its last bits") == 1
    after = plan_of(on_gpu)
    assert after.gpu_layers == (0, 0)
    assert after.memory >= after.stage2().own_bytes(facts)
    kept = ("n_ctx", "kv_type", "flash_attention", "ubatch", "threads")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert {engine.options.gpu_layers for engine in opened} == {0}
    assert song_bytes(on_gpu) == song_bytes(sung(*OURS, *FAST))  # but for last bits of real models


def test_a_song_at_its_end_keeps_the_plan_of_its_gpu(on_gpu: Path, see: See, capsys: Capture) -> None:
    see(GIB)
    ended(cli(capsys, "refine", on_gpu))
    see()
    (on_gpu / "mix.wav").unlink()
    assert NOTE not in ended(cli(capsys, "resume", on_gpu)).err
    assert plan_of(on_gpu).gpu_layers == (-1, -1)


def test_a_song_goes_on_with_the_gpu_of_this_machine_if_it_fits(
    on_gpu: Path, see: See, capsys: Capture
) -> None:
    see(MIB)
    said = refused(capsys, 4, "refine", on_gpu)
    assert "of the GPU's memory and 1 MiB may be used; --gpu-layers 0 would fit" in said
    edit_song(on_gpu, plan={**asdict(plan_of(on_gpu)), "main_gpu": 1})
    see(8 * GIB)
    assert "there is no GPU number 1; 1 are seen" in refused(capsys, 5, "refine", on_gpu)
    see(MIB, 8 * GIB)
    layers = plan_of(on_gpu).gpu_layers
    assert "note: the song" not in ended(cli(capsys, "refine", on_gpu)).err
    assert (plan_of(on_gpu).gpu_layers, plan_of(on_gpu).main_gpu) == (layers, 1)


def test_layers_on_a_gpu_that_is_not_there_are_refused_in_python_too(see: See) -> None:
    see()
    for options in (ComputeOptions(gpu=True), ComputeOptions(gpu_layers=3)):
        with pytest.raises(YueError, match=r"llama[.]cpp has no GPU support; pass --device cpu"):
            engines.find_devices(options)


def test_a_song_that_begins_beside_an_open_model_is_checked_as_if_that_were_closed(
    see: See, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = note_engines(monkeypatch)
    songs = folders(tmp_path, [replace(REQUESTS[0], seed=seed) for seed in range(3)], draft="mix")
    for song in songs:
        edit_song(song.path, plan={**asdict(plan_of(song.path)), "stage1_gpu_layers": -1})
    songs = [SongFolder.open(song.path) for song in songs]

    def free() -> int:
        return MIB if any(engine.open for engine in opened) else 64 * GIB

    monkeypatch.setattr(hardware, "available_memory", free)
    see(1)
    monkeypatch.setattr(build, "devices", lambda _server=None: [{"kind": "gpu", "memory_free": free()}])
    works = works_of(songs, OPTIONS)
    run_all(Scheduler(2), works)
    assert all(work.result().draft for work in works)
    assert [engine.options.gpu_layers for engine in opened] == [-1]
