"""What is foretold is the sum of its steps; what is measured is what a known machine takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine
from helpers import cli

from yuegguf.files import typed_json
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.header import ModelFacts, model_facts
from yuegguf.lm.protocol import SequenceInput
from yuegguf.measure.forecast import _snapshot_ids, plan_reasons
from yuegguf.models.resolve import nano_models
from yuegguf.planning import timing
from yuegguf.planning.compute_options import ComputeOptions, Devices
from yuegguf.planning.cost import (
    ALL,
    GPU_WORKSPACE,
    KV_BYTES,
    WORKSPACE,
    LoadSpec,
    StepCost,
    draft_seconds,
    refine_seconds,
    sampled_ids,
)
from yuegguf.planning.plan import Plan, StageFacts, make_plan
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import SongRequest
from yuegguf.stages.lookahead import confidence_for

COST = StepCost(step=0.1, row=0.02, cell=3e-5, prompt=0.004)


def test_a_step_is_a_sum() -> None:
    assert COST.seconds(3, 1000) == pytest.approx(0.1 + 0.06 + 0.03)


@pytest.mark.parametrize("takes", [1, 3])
@pytest.mark.parametrize("guided", [False, True])
def test_a_draft_is_all_its_steps(guided: bool, takes: int) -> None:
    prompts, frames = [50, 20, 30], [7, 1, 12]
    total, held = 0.0, 0
    for ids, count in zip(prompts, frames, strict=True):
        total += ids * COST.prompt * (takes if held else 1)
        held += ids
        for step in range(2 * count):
            cells = held + step + (step if guided else 0)
            total += COST.seconds(takes * (2 if guided else 1), takes * cells)
        held += 2 * count + 1
    assert draft_seconds(COST, prompts, frames, guided=guided, takes=takes) == pytest.approx(total)


def test_a_draft_that_outgrows_its_context_reads_what_it_keeps_anew() -> None:
    prompts, frames = [50, 10, 10, 10], [20, 20, 20, 20]  # 91 ids, then 51 each
    roomy = draft_seconds(COST, prompts, frames, guided=False)
    assert draft_seconds(COST, prompts, frames, guided=False, n_ctx=244, header=40) == roomy
    tight = draft_seconds(
        COST, prompts, frames, guided=False, n_ctx=243, header=40
    )  # the last section drops the first
    fewer = 91 + 51 + 51 - (40 + 51 + 51)
    assert roomy - tight == pytest.approx(40 * fewer * COST.cell - COST.prompt * (40 + 51 + 51))


def test_the_header_stays_when_sections_were_dropped() -> None:
    """The fourth section drops the first; the fifth fits beside header and two, and is read alone."""
    prompts, frames = [50, 10, 10, 10, 10], [20, 20, 20, 20, 1]
    room = 91 + 3 * 51 - 1
    total = draft_seconds(COST, prompts, frames, guided=False, n_ctx=room, header=40)
    before = draft_seconds(COST, prompts[:4], frames[:4], guided=False, n_ctx=room, header=40)
    context = 40 + 3 * 51 + 10
    assert context + 3 <= room
    assert total - before == pytest.approx(COST.prompt * 10 + 2 * COST.seconds(1, context) + COST.cell)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 9])
def test_refining_is_all_its_steps(rows: int) -> None:
    lengths = [12, 12, 12, 12, 5, 3]
    total = 0.0
    for first in range(0, len(lengths), rows):
        wave = lengths[first : first + rows]
        total += COST.prompt * sum(3 + frames for frames in wave)
        for frame in range(max(wave)):
            here = [frames for frames in wave if frame < frames]
            cells = sum(3 + frames + 8 * frame + 4 for frames in here)  # 4: the middle of the frame
            total += 7 * COST.seconds(len(here), cells)
    assert refine_seconds(COST, lengths, rows) == pytest.approx(total)


def test_flash_attention_holds_no_scores_and_caches_shrink_with_their_type() -> None:
    facts = ModelFacts(bytes=10**9, kv_width=1000, heads=8, n_ctx_train=0)
    scores = 4 * 8 * 2048 * 128
    assert LoadSpec(2, 2048).own_bytes(facts) - LoadSpec(2, 2048, flash=True).own_bytes(facts) == scores
    caches = [LoadSpec(2, 2048, kind, flash=True).own_bytes(facts) for kind in ("f32", "f16", "q8_0", "q4_0")]
    assert [a - b for a, b in pairwise(caches)] == [
        round(2 * 2048 * 1000 * (a - b)) for a, b in ((4, 2), (2, 34 / 32), (34 / 32, 18 / 32))
    ]
    assert set(KV_BYTES) == {"f32", "f16", "q8_0", "q4_0"}


def test_layers_on_the_gpu_move_their_weights_and_caches_there() -> None:
    facts = ModelFacts(bytes=8 * 10**9, kv_width=1000, heads=8, n_ctx_train=0, layers=32)
    caches, scores = 2 * 2048 * 1000 * 2, 4 * 8 * 2048 * 128
    alone = LoadSpec(2, 2048)
    assert alone.gpu_bytes(facts) == 0
    for layers in (1, 8, 31):
        held = LoadSpec(2, 2048, gpu_layers=layers)
        moved = (facts.bytes + caches) * layers // 32
        assert held.gpu_bytes(facts) == moved + scores + GPU_WORKSPACE
        assert alone.own_bytes(facts) - held.own_bytes(facts) == moved
        assert held.own_bytes(facts, shared=True) == alone.own_bytes(facts)
    for layers in (ALL, 32, 99):
        whole = LoadSpec(2, 2048, gpu_layers=layers)
        assert whole.gpu_bytes(facts) == facts.bytes + caches + scores + GPU_WORKSPACE
        assert whole.own_bytes(facts) == WORKSPACE


def test_the_rows_fill_section_by_section_and_the_unconditional_one_starts_anew() -> None:
    asked = [sampled_ids([10, 5], [4, 6], True, share) for share in (0, 0.2, 0.4, 0.45, 1)]
    assert asked == [10, 10 + 4 + 4, 10 + 8 + 8, 10 + 8 + 1 + 5 + 1 + 1, 19 + 5 + 12 + 12]
    assert sampled_ids([10, 5], [4, 6], False, 1) == 19 + 5 + 12


def test_disk_is_that_of_the_last_two_snapshots() -> None:
    song = prepare(SongRequest("pop", "[verse]\nla\n[chorus]\nla\n", segment_seconds=10))
    made = Plan(4096, 2, 2, 1, "f16", None, 0, 0)
    of_share = [sampled_ids([20, 8], [500, 500], True, share) for share in (0.4, 0.8)]

    def told(every: float) -> int:
        return _snapshot_ids(song, [20, 8], made, 50.0, every)

    assert (told(0), told(60)) == (0, 0)
    assert told(40) == of_share[1]
    assert told(20) == sum(of_share)
    assert _snapshot_ids(song, [20, 8], replace(made, n_ctx=512), 50.0, 20.0) == 2 * 2 * 512


class ClockedEngine(FakeEngine):
    """Every decode takes what COST says, on a clock of its own."""

    now = 0.0

    def decode(self, rows: Sequence[SequenceInput]) -> np.ndarray:
        ids = sum(len(row.ids) for row in rows)
        if ids > len(rows):
            self.now += ids * COST.prompt
        else:
            self.now += COST.seconds(len(rows), sum(len(self.fed[row.seq]) for row in rows))
        return super().decode(rows)


@pytest.mark.parametrize("rows", [1, 2, 10])
def test_a_known_machine_is_measured_exactly(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ClockedEngine(n_rows=rows)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: engine.now)
    found = timing.measure(engine)
    for held in (0, 100, 2000):
        assert found.seconds(rows, rows * held) == pytest.approx(COST.seconds(rows, rows * held))
    assert found.prompt == pytest.approx(COST.prompt)
    assert found.cell == pytest.approx(COST.cell)
    if rows > 1:
        assert (found.step, found.row) == (pytest.approx(COST.step), pytest.approx(COST.row))
    assert engine.fed == [[]] * rows
    assert engine.now < 12  # four seconds of steps, the prompts, and at least three of each


@pytest.mark.parametrize(
    ("prompt", "far", "context", "place"),
    [
        (1e-4, None, 16384, timing.FARTHEST),
        (0.01, None, 16384, timing.FAR + 400),  # four seconds of reading
        (5.0, None, 16384, timing.FAR),
        (1e-4, None, 500, 499),
        (1e-4, 100, 16384, 100),
        (5.0, 3000, 16384, 3000),
        (1e-4, 3000, 500, 499),
    ],
)
def test_the_later_place_is_as_far_as_is_soon_read(
    prompt: float, far: int | None, context: int, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "COST", replace(COST, prompt=prompt))
    engine, held = ClockedEngine(n_rows=2, n_ctx=context), []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: engine.now)
    monkeypatch.setattr(engine, "copy", lambda *rows: held.append(len(engine.fed[0])))
    timing.measure(engine, far=far)
    assert held[-1] == pytest.approx(place, abs=1)


class PricedEngine(FakeEngine):
    """A step takes a second, with two ids in a sequence as much more as a draft costs."""

    now = 0.0

    def __init__(self, price: float) -> None:
        super().__init__(n_rows=2)
        self.price = price
        self.held: list[int] = []

    def decode(self, rows: Sequence[SequenceInput]) -> np.ndarray:
        if len(rows) == 2:
            assert [each.n_logits for each in rows] == [len(each.ids) for each in rows]
            self.held.append(len(self.fed[0]))
        self.now += 1 + self.price * (len(rows[0].ids) == 2)
        return super().decode(rows)


@pytest.mark.parametrize("price", [-0.125, 0.0, 0.75])
def test_the_price_of_a_draft_is_that_of_a_second_id(price: float, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PricedEngine(price)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: engine.now)
    assert timing.draft_price(engine) == price
    assert set(engine.held) == {timing.NEAR}
    assert engine.fed == [[], []]


AUTOMATIC = ComputeOptions()


def test_a_plan_takes_the_confidence_that_pays_at_a_price_timed_for_it_alone(tmp_path: Path) -> None:
    cache, plan = timing.TimingCache(tmp_path / "speed.json"), Plan(4096, 2, 8, 1, "f16", None, 0, 0)
    assert timing.calibrated(plan, AUTOMATIC, "model", cache) == plan
    cache.keep(COST, *timing.timing_facts(plan, plan.stage1(), "model"))  # without a price
    assert timing.calibrated(plan, AUTOMATIC, "model", cache) == plan
    cache.keep(replace(COST, draft=0.9), *timing.timing_facts(plan, plan.stage1(), "model"))
    for same in (plan, replace(plan, n_ctx=2048), replace(plan, stage2_rows=2)):
        assert timing.calibrated(same, AUTOMATIC, "model", cache) == replace(same, draft_confidence=0.85)
    for other in (replace(plan, threads=2), replace(plan, kv_type="f32"), replace(plan, stage1_rows=1)):
        assert timing.calibrated(other, AUTOMATIC, "model", cache) == other
    assert timing.calibrated(plan, AUTOMATIC, "another", cache) == plan
    named = ComputeOptions(draft_confidence=0.5)
    assert timing.calibrated(plan, named, "model", cache) == plan


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    notebook = timing.TimingCache(tmp_path / "new" / "speed.json")
    assert notebook.find("stage1", 2) is None
    notebook.keep(COST, "stage1", 2)
    assert timing.TimingCache(notebook.path).find("stage1", 2) == COST
    assert notebook.find("stage1", 3) is None
    for damaged in ("", "[1]", '{"x": 1', json.dumps({timing._key(("a",)): {"step": 1}})):
        notebook.path.write_text(damaged)
        assert notebook.find("a") is None
    notebook.keep(COST, "a")
    assert notebook.find("a") == COST
    timing.TimingCache(Path("/proc/nowhere/speed.json")).keep(COST, "a")  # no reason to stop


def reasons_of(
    options: ComputeOptions, free: int | None = None, stage2: ModelFacts | None = None, **gpu: object
) -> list[str]:
    """The reasons of a song's plan on a machine with eight cores."""
    song = prepare(SongRequest("pop", "[verse]\nla la\n" * 6))
    big = ModelFacts(2 << 30, 1 << 16, 32, 16384)
    devices = Devices(8, free, **gpu)  # type: ignore[arg-type]
    plan = make_plan(song, StageFacts(big, stage2 or big), options, devices)
    return plan_reasons(plan, song, options, devices)


def test_every_choice_has_its_reason() -> None:
    asked = reasons_of(ComputeOptions(threads=3, kv_type="f32", stage2_rows=2))
    assert [line.split()[0] for line in asked] == [
        "context", "stage", "stage", "drafts", "threads", "caches", "flash", "ubatch", "GPU",
    ]  # fmt: skip
    assert sum("as requested" in line for line in asked) == 3
    assert "flash        on: q8_0 caches need it" in reasons_of(ComputeOptions(kv_type="q8_0"))
    second = ModelFacts(2 << 30, 1 << 17, 16, 8192)
    assert "as many as memory holds" in reasons_of(ComputeOptions(), 8 << 30, second)[2]
    assert "16 sequences: fastest for 60 chunks" in reasons_of(ComputeOptions(), 99 << 30, second)[2]
    on_gpu = reasons_of(ComputeOptions(gpu=True), 99 << 30, second, gpu=True, gpu_memory=9 << 30)
    assert on_gpu[-1] == "GPU layers   all of stage 1 and all of stage 2: as many as its memory holds"
    full = reasons_of(ComputeOptions(gpu=True), 99 << 30, second, gpu=True, gpu_memory=1 << 29)
    assert full[-1] == "GPU layers   0: the GPU's memory holds none"


def test_a_plan_is_shown_measured_once_and_nothing_is_begun(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    words = ("run", "-g", "pop", "--lyrics", "[verse]\nla la", "--segment-seconds", 2, "-m", "nano")
    args = (*words, "-o", tmp_path / "songs", "--plan", "--threads", 1)
    found = cli(capsys, *args, "--json").json
    assert found["plan"]["stage2_rows"] == 2
    costs = typed_json.read_file(tmp_path / "cache" / "speed.json", dict[str, StepCost], "").values()
    (price,) = [cost.draft for cost in costs if cost.draft is not None]  # stage 1's alone
    assert found["plan"]["draft_confidence"] == confidence_for(price)
    assert (found["music"], found["likely_music"]) == (2.0, 1.2)  # two syllables at 1.6 a second
    assert set(found["seconds"]) == {"draft", "refine", "master"}
    assert all(seconds >= 0 for seconds in found["seconds"].values())
    assert max(found["memory"].values()) == found["plan"]["memory"]
    kept = (tmp_path / "cache" / "speed.json").read_bytes()
    again = cli(capsys, *args)
    assert "in all       about" in again.out
    assert (tmp_path / "cache" / "speed.json").read_bytes() == kept
    assert not (tmp_path / "songs").exists()
    refused = cli(capsys, *args, "--max-memory", "1M")
    assert (refused.code, refused.out) == (4, "")


def test_the_plan_of_takes_is_that_of_their_common_draft(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path))
    words = ("run", "-g", "pop", "--lyrics", "[verse]\nla la", "--segment-seconds", 2, "-m", "nano", "--plan")
    alone = cli(capsys, *words, "-o", tmp_path / "songs", "--json").json
    three = cli(capsys, *words, "-o", tmp_path / "songs", "--json", "-n", 3)
    found = three.json
    facts = model_facts(read_model(nano_models().stage1).shape, 0)
    row = facts.kv_width * 2 * found["plan"]["n_ctx"]
    assert found["memory"]["draft"] - alone["memory"]["draft"] == 4 * row
    assert found["memory"]["refine"] == alone["memory"]["refine"]
    assert found["disk"] == 3 * alone["disk"]
    assert found["plan"]["stage1_rows"] == alone["plan"]["stage1_rows"] == 2
    assert "the draft is of all 3 takes, which share its steps; the rest is of one" in three.err
