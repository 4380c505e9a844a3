"""The loops that we are measured against compute what they should: a slow or wrong peer would flatter us."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from yuegguf_convert.synthetic import SHAPES

from benchmarks.peers import loops
from benchmarks.peers.__main__ import table
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


@pytest.fixture
def fed(model: torch.nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the ids of every pass through the model."""
    shapes: list[tuple[int, ...]] = []
    hook = model.model.embed_tokens.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    yield shapes
    hook.remove()


def test_the_official_stage_1_takes_two_passes_a_step_and_reads_the_context_once(
    model: torch.nn.Module, fed: list[tuple[int, ...]]
) -> None:
    torch.manual_seed(0)
    loops.official_stage1(model, 8, 24, 2)
    # guidance: the second pass starts with the prompt's last id, and then both get the same new one
    assert fed == [shape for place in (8, 24) for shape in [(1, place), (1, 1), *[(1, 1)] * 4]]


def test_the_official_stage_2_reads_everything_anew_for_a_frame(
    model: torch.nn.Module, fed: list[tuple[int, ...]]
) -> None:
    loops.official_stage2(model)(2)
    assert fed == [(4, 303 + 8 * 2), *[(4, 1)] * 6]


def test_the_lean_loops_feed_new_ids_alone(model: torch.nn.Module, fed: list[tuple[int, ...]]) -> None:
    loops.lean_stage2(model, 3)(2)
    assert fed == [(3, 2), *[(3, 1)] * 6]
    fed.clear()
    loops.lean_stage1(model, 8, 24, 2)
    assert fed[0] == (1, 8)
    assert [shape for shape in fed if shape[0] == 2] == [(2, 1)] * 6  # one to warm up and two, at two places


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


def test_every_draw_is_timed_by_itself(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    clock = loops.Clock()
    model.generate(
        torch.tensor([[3, 4]]), max_new_tokens=5, min_new_tokens=5, stopping_criteria=[clock], do_sample=True
    )
    assert len(clock.between()) == 5
    assert all(seconds > 0 for seconds in clock.between())


def test_the_table_names_every_loop_with_its_ratio() -> None:
    found = {"stage1": {"ours": 10.0, "lean": 40.0}, "stage2": {"ours": 30.0, "lean": 60.0}}
    assert table(found) == [
        "|  | stage1 | stage2 | both | ratio |",
        "|---|---|---|---|---|",
        "| ours | 10 s (1.0 x) | 30 s (1.0 x) | 40 s | 1.0 |",
        "| lean | 40 s (4.0 x) | 60 s (2.0 x) | 100 s | 2.5 |",
    ]
