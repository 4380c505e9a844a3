"""The 4-bit type that `pull` takes of stage 1 where none is named and the memory allows just that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Capture, cli
from yuegguf_convert.synthetic import SHAPES

from yuegguf.errors import EngineError, RequestError, StorageError
from yuegguf.files import typed_json
from yuegguf.measure import type_choice
from yuegguf.measure.type_choice import FASTER, FINER, HEAD, choose, default_type, whole_steps
from yuegguf.models import install
from yuegguf.planning.compute_options import Devices

GIB = 2**30
SLOWER = {FINER: 0.020, FASTER: 0.018, HEAD: 0.010}
FAR_SLOWER = {FINER: 0.030, FASTER: 0.018, HEAD: 0.010}
"""Steps where Q4_0 saves less than 15 % of the whole step, and where it saves more."""


class Machine:
    """A machine of 5 GiB without a GPU, whose measurement is given."""

    def __init__(self) -> None:
        self.times: dict[str, float] | Exception = SLOWER
        self.measured, self.gpu, self.memory = 0, False, 5.0
        self.told: list[str] = []
        self.notes: list[str] = []

    def measure(self) -> dict[str, float]:
        self.measured += 1
        assert len(self.told) == self.measured  # it is said before
        if isinstance(self.times, Exception):
            raise self.times
        return self.times

    def choose(self, root: Path, *names: str) -> str | None:
        return default_type(names or ("en-cot",), root, self.told.append, self.notes.append)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(type_choice, "measure_types", made.measure)
    monkeypatch.setattr("yuegguf.planning.hardware.available_memory", lambda: int(made.memory * GIB))
    monkeypatch.setattr("yuegguf.planning.hardware.missing_features", lambda _system: [])
    monkeypatch.setattr("yuegguf.pipeline.engines.find_devices", lambda _options: Devices(2, gpu=made.gpu))
    return made


def test_the_faster_type_must_save_fifteen_percent() -> None:
    assert choose({FINER: 100, FASTER: 85}) == (FASTER, "its step is 15% shorter here than Q4_K_M's")
    kept = "it is nearer to the original, and Q4_0's step is {} here"
    assert choose({FINER: 100, FASTER: 86}) == (FINER, kept.format("14% shorter"))
    assert choose({FINER: 100, FASTER: 101}) == (FINER, kept.format("no shorter"))


def test_the_output_matrix_counts_once_in_the_published_models_step() -> None:
    """A layer takes 3 of FASTER and 4 of FINER, the rest 4."""
    assert whole_steps({FASTER: 10, HEAD: 7, FINER: 12}) == {FASTER: 4 + 32 * 3, FINER: 4 + 32 * 4}
    noisy = whole_steps({FASTER: 9, HEAD: 10, FINER: 12})
    assert noisy == {FASTER: 4.5 + 16 * 4.5, FINER: 4.5 + 16 * 7.5}
    assert whole_steps({FASTER: 9, HEAD: 1, FINER: 12}) == {FASTER: 16 * 9, FINER: 16 * 12}


def test_it_is_measured_once_for_a_machine_and_build(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [machine.choose(tmp_path) for _ in range(3)] == [FINER] * 3
    assert (machine.measured, len(machine.told)) == (1, 1)
    assert "at most 30 s, once" in machine.told[0]
    assert len(machine.notes) == 3
    assert {*machine.notes} == {
        "stage 1 is taken as Q4_K_M: it is nearer to the original, and Q4_0's step is 11% shorter here; "
        "--quant chooses another"
    }
    monkeypatch.setattr("yuegguf.lm.build.build_files", lambda: ((1,),))
    machine.times = FAR_SLOWER
    assert machine.choose(tmp_path) == FASTER
    assert machine.measured == 2


@pytest.mark.parametrize("memory", [4.2, 5.6, 64.0])
def test_the_memory_decides_alone_where_it_allows_less_or_more(
    machine: Machine, tmp_path: Path, memory: float
) -> None:
    machine.memory = memory
    assert machine.choose(tmp_path) is None
    assert (machine.measured, machine.notes) == (0, [])


def test_a_gpu_and_no_model_need_no_measurement(machine: Machine, tmp_path: Path) -> None:
    assert default_type([], tmp_path, machine.told.append, machine.notes.append) is None
    machine.gpu = True
    assert machine.choose(tmp_path) is None
    assert (machine.measured, machine.notes) == (0, [])


@pytest.mark.parametrize("kind", [FINER, FASTER])
def test_what_is_installed_stays(machine: Machine, tmp_path: Path, kind: str) -> None:
    (tmp_path / f"en-icl-{kind}.gguf").touch()
    assert machine.choose(tmp_path, "en-cot", "en-icl") == kind
    assert (machine.measured, machine.notes) == (0, [])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (EngineError("it took longer than 30 s", "name a type"), "it took longer than 30 s"),
        (StorageError("the disk is full"), "the disk is full"),
        (ImportError("No module named 'llama_cpp'"), "llama_cpp"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
    ],
)
def test_a_measurement_that_fails_is_a_note_and_is_made_again(
    machine: Machine, tmp_path: Path, fault: Exception, words: str
) -> None:
    machine.times = fault
    assert machine.choose(tmp_path) is None
    assert len(machine.notes) == 1
    assert words in machine.notes[0]
    assert "stage 1 is taken as Q4_K_M" in machine.notes[0]
    machine.times = FAR_SLOWER
    assert machine.choose(tmp_path) == FASTER


def test_only_stage_1_without_a_type_is_chosen_for() -> None:
    names = ["zh-cot:Q8_0", "en-icl", "xcodec"]
    assert install.stage1_without_type(names, "minimal") == ["en-icl", "en-cot"]
    with pytest.raises(RequestError, match="no model called nothing"):
        install.stage1_without_type(["nothing"], None)


@pytest.mark.parametrize(
    ("words", "quant"),
    [
        (("en-cot",), FASTER),
        (("--set", "minimal"), FASTER),
        (("en-cot", "--quant", "Q5_K_M"), "Q5_K_M"),
        (("en-cot:Q8_0",), None),
        (("en-cot", "--from-gguf"), None),
        (("en-cot", "--to", "kit"), None),
        (("s2-general",), None),
    ],
)
def test_pull_hands_the_choice_on(
    machine: Machine,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    quant: str | None,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("yuegguf.api.files.pull", lambda *_args, **named: asked.append(named["quant"]) or ())
    monkeypatch.setattr(type_choice, "measure_types", lambda: FAR_SLOWER)
    monkeypatch.chdir(tmp_path)
    result = cli(capsys, "--models-dir", tmp_path / "models", "pull", *words)
    assert (result.code, asked) == (0, [quant])
    lines = result.err.splitlines()
    assert len(lines) == (2 if quant == FASTER else 0)
    if lines:
        assert lines[0].startswith("measuring which 4-bit type of stage 1 is faster here")
        assert lines[1].startswith("note: stage 1 is taken as Q4_0: its step is 43% shorter")


def test_an_installed_q4_0_is_preferred_to_a_coarser_type(tmp_path: Path) -> None:
    from yuegguf.models import registry

    kinds = ["Q3_K_M", FASTER, FINER, "Q8_0"]
    assert sorted(kinds, key=registry.type_rank) == ["Q8_0", FINER, FASTER, "Q3_K_M"]


def test_a_random_model_has_the_published_widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(
        "yuegguf_convert.synthetic.write_synthetic", lambda *args, config: seen.append((*args, config))
    )
    install.write_random_stage1(tmp_path / "a.gguf", FASTER, 2)
    [(path, role, kind, config)] = seen
    assert (path, role, kind) == (tmp_path / "a.gguf", "stage1", FASTER)
    assert (config.layers, config.hidden) == (2, SHAPES["stage1"].hidden)


def run_as(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Let a Python program stand for the measuring process; its first argument is the folder."""
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    real = subprocess.run
    program = [sys.executable, "-c", text]
    monkeypatch.setattr(subprocess, "run", lambda command, **named: real([*program, command[-1]], **named))


def test_the_measuring_process_leaves_its_times_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = typed_json.encode(SLOWER).decode()
    run_as(monkeypatch, tmp_path, f"import sys; open(sys.argv[1] + '/times.json', 'w').write({text!r})")
    assert type_choice.measure_types() == SLOWER
    assert [*(tmp_path / "cache").iterdir()] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import time; time.sleep(60)", "longer than 0 s"),
        ("raise SystemExit('no memory')", "failed with no memory"),
        ("import os; os.abort()", "failed with code -6"),
    ],
)
def test_a_measuring_process_that_fails_is_an_error_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, words: str
) -> None:
    run_as(monkeypatch, tmp_path, text)
    if "sleep" in text:
        monkeypatch.setattr(type_choice, "BENCH_SECONDS", 0.3)
    with pytest.raises(EngineError, match=words):
        type_choice.measure_types()
    assert [*(tmp_path / "cache").iterdir()] == []
