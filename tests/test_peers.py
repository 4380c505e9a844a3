"""The loops that we are measured against compute what they should: a slow or wrong peer would flatter us."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from yuegguf_convert.synthetic import SHAPES

from benchmarks.peers import loops
from benchmarks.peers.models import LeanLlama, random_model

TINY = replace(SHAPES["stage1"], hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=96, vocab=300)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return random_model(TINY, torch.float32)


def test_the_lean_loop_gives_the_logits_of_transformers(model: torch.nn.Module) -> None:
    ids = torch.randint(3, 300, (2, 12), generator=torch.Generator().manual_seed(1))
    lean = LeanLlama(model, 2, 12)
    found = [lean(ids[:, :5]), *(lean(ids[:, i : i + 1]) for i in range(5, 10)), lean(ids[:, 10:12])]
    with torch.no_grad():
        expected = model(ids).logits
    for logits, place in zip(found, (4, 5, 6, 7, 8, 9, 11), strict=True):
        torch.testing.assert_close(logits, expected[:, place], atol=1e-5, rtol=1e-4)


def test_every_loop_runs_and_is_timed(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for made in (loops.official_stage1(model, 8, 24, 2), loops.lean_stage1(model, 8, 24, 2)):
        assert made.step.near_seconds > 0
        assert made.prompt > 0
    for frame in (loops.official_stage2(model), loops.lean_stage2(model, 3)):
        assert frame(2) > 0


def test_a_song_is_the_sum_of_its_steps() -> None:
    step = loops.Places(near=10, far=20, near_seconds=1.0, far_seconds=2.0)
    assert [step.at(place) for place in (10, 15, 40)] == [1.0, 1.5, 4.0]
    kept = loops.Stage1Times(step, prompt=0.5, kept=True)
    anew = loops.Stage1Times(step, prompt=0.5, kept=False)
    steps = sum(step.at(10 + i + 0.5) for i in range(4)) + sum(step.at(17 + i + 0.5) for i in range(6))
    assert kept.song([4, 6], [10, 3]) == pytest.approx(steps + 0.5 * 13)
    assert anew.song([4, 6], [10, 3]) == pytest.approx(steps + 0.5 * (10 + 17))


def test_a_chunk_is_exact_for_a_parabola() -> None:
    found = loops.chunk_seconds(lambda number: 2.0 + 0.01 * number)
    assert found == pytest.approx(sum(2.0 + 0.01 * number for number in range(300)), rel=0.02)
