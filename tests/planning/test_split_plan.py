"""Plans of small models: an engine a thread, each with the weights."""

from __future__ import annotations

from dataclasses import replace

from plans import plan_of, revised

from yuegguf.lm.header import ModelFacts
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.plan import SMALL_MODEL, Plan
from yuegguf.request.song_request import SongRequest

BIG1 = ModelFacts(2**32, 2 * 32 * 4 * 128, 32, 16384)
BIG2 = ModelFacts(2**31, 2 * 16 * 32 * 128, 16, 8192)
SMALL1, SMALL2 = replace(BIG1, bytes=SMALL_MODEL), replace(BIG2, bytes=SMALL_MODEL)


def request() -> SongRequest:
    return SongRequest("pop", "[verse]\nla la\n" * 6, segment_seconds=30)


def engines(plan: Plan) -> tuple[int, int]:
    return plan.stage1_engines, plan.stage2_engines


def test_a_small_model_on_the_cpu_has_an_engine_for_each_thread() -> None:
    larger = replace(SMALL2, bytes=SMALL_MODEL + 1)
    assert engines(plan_of(request(), SMALL1, SMALL2, ComputeOptions(), 6, None)) == (6, 6)
    assert engines(plan_of(request(), SMALL1, larger, ComputeOptions(threads=3), 6, None)) == (3, 1)
    assert engines(plan_of(request(), SMALL1, SMALL2, ComputeOptions(threads=1), 6, None)) == (1, 1)
    on_gpu = ComputeOptions(gpu_layers=2)
    assert engines(plan_of(request(), SMALL1, SMALL2, on_gpu, 6, None)) == (1, 1)


def test_no_more_engines_are_opened_than_there_are_sequences() -> None:
    plan = plan_of(request(), SMALL1, SMALL2, ComputeOptions(), 6, None)
    assert (plan.stage1().opened, replace(plan.stage2(), rows=4).opened) == (2, 4)
    assert replace(plan.stage2(), rows=0).opened == 1


def test_each_engine_holds_the_weights_and_the_scores_of_a_prompt() -> None:
    load = replace(plan_of(request(), SMALL1, SMALL2, ComputeOptions(), 6, None).stage1(), rows=4)
    alone, split = (replace(load, engines=n).own_bytes(SMALL1) for n in (1, 3))
    scores = 4 * SMALL1.heads * load.ids * load.batch
    assert split - alone == 2 * (SMALL_MODEL + scores)


def test_a_song_that_goes_on_keeps_its_engines_unless_its_layers_move() -> None:
    made = plan_of(request(), SMALL1, SMALL2, ComputeOptions(), 4, None)
    fewer = revised(made, request(), SMALL1, SMALL2, ComputeOptions(threads=1), None, "draft")
    assert (fewer.threads, engines(fewer)) == (1, (4, 4))
    before = replace(made, stage1_engines=1, stage2_engines=1)  # of a song from before there were several
    here = ComputeOptions(gpu_layers=0)
    assert engines(revised(before, request(), SMALL1, SMALL2, here, None, "draft")) == (1, 1)
    there = ComputeOptions(gpu_layers=-1)
    moved = revised(made, request(), SMALL1, SMALL2, there, None, "draft")
    assert engines(moved) == (1, 1)
    assert engines(revised(moved, request(), SMALL1, SMALL2, here, None, "draft")) == (4, 4)


def test_sequences_of_a_step_are_counted_for_each_engine() -> None:
    plan = replace(plan_of(request(), BIG1, BIG2, ComputeOptions(), 4, None), stage2_engines=4)
    assert [plan.step_effort(rows) for rows in (1, 4, 5, 16)] == [
        replace(plan, stage2_engines=1).step_effort(rows) for rows in (1, 1, 2, 4)
    ]
