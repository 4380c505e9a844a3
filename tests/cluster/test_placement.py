"""Resources that a unit asks for, from the plans of its songs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import new_song

from yuegguf.cluster.cluster_song import ClusterSong
from yuegguf.cluster.placement import COORDINATOR, can_spread, gpu_share, need_of
from yuegguf.cluster.unit import Need, Node
from yuegguf.errors import RequestError
from yuegguf.lm.header import ModelFacts
from yuegguf.models.resolve import nano_models
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.plan import Plan, StageFacts
from yuegguf.planning.together import RENDER_BYTES

FACTS = StageFacts(
    ModelFacts(bytes=4 * 2**30, kv_width=2 * 32 * 8 * 128, heads=32, n_ctx_train=16384, layers=32),
    ModelFacts(bytes=2**30, kv_width=2 * 16 * 2048, heads=16, n_ctx_train=8192, layers=16),
)
PLAN = Plan(
    n_ctx=4096, stage1_rows=2, stage2_rows=4, threads=6, kv_type="f16", main_gpu=None, memory=0, gpu_memory=0
)
ON_GPU = replace(PLAN, stage1_gpu_layers=-1, stage2_gpu_layers=-1)


def test_each_phase_asks_for_the_memory_of_its_own_model() -> None:
    draft, refine, master = (need_of([PLAN], FACTS, phase) for phase in ("draft", "refine", "master"))  # type: ignore[arg-type]
    assert draft == Need(6.0, PLAN.stage1().own_bytes(FACTS.stage1))
    assert refine == Need(6.0, PLAN.stage2().own_bytes(FACTS.stage2))
    assert master == Need(6.0, RENDER_BYTES)
    assert draft.memory > refine.memory > master.memory


def test_songs_that_are_drafted_together_share_the_weights() -> None:
    one, four = need_of([PLAN], FACTS, "draft"), need_of([PLAN] * 4, FACTS, "draft")
    rows = replace(PLAN, stage1_rows=8).stage1().own_bytes(FACTS.stage1)
    assert one.memory < four.memory == rows < 4 * one.memory


def test_together_songs_are_refined_with_at_most_the_useful_rows() -> None:
    many = need_of([PLAN] * 9, FACTS, "refine")
    assert many.memory == replace(PLAN, stage2_rows=16).stage2().own_bytes(FACTS.stage2) + RENDER_BYTES


def test_layers_on_a_gpu_take_a_whole_one_or_their_share() -> None:
    assert need_of([PLAN], FACTS, "draft").gpus == 0.0
    assert need_of([ON_GPU], FACTS, "draft").gpus == 1.0
    assert need_of([ON_GPU], FACTS, "master").gpus == 0.0
    needed = ON_GPU.stage1().gpu_bytes(FACTS.stage1)
    share = need_of([ON_GPU], FACTS, "draft", 80 * 2**30).gpus
    assert share - 0.01 < needed / (80 * 2**30) <= share


@pytest.mark.parametrize(
    ("needed", "card", "share"),
    [(0, 100, 0.0), (1, 100, 0.01), (50, 100, 0.5), (101, 200, 0.51), (100, 100, 1.0), (101, 100, 2.0)],
)
def test_a_share_is_rounded_up_to_hundredths_and_above_one_to_whole_cards(
    needed: int, card: int, share: float
) -> None:
    assert gpu_share(needed, card) == share


def test_a_machine_holds_what_is_no_larger_in_anything() -> None:
    node = Node("a", "a", 4.0, 100, 1.0)
    assert node.holds(Need(4.0, 100, 1.0))
    assert not any(map(node.holds, (Need(5.0, 1), Need(1.0, 101), Need(1.0, 1, 1.01))))


@pytest.mark.parametrize(("others", "spread"), [(0, True), (1, True), (2, False)])
def test_units_are_spread_as_long_as_a_machine_is_left_with_room_for_a_part(
    others: int, spread: bool
) -> None:
    need = Need(2.0, 4 * 2**30)
    exact = Node("exact", "", 2.0, need.memory, 0.0)
    roomy = [Node(name, "", 2.0, need.memory + COORDINATOR.memory, 0.0) for name in ("a", "b")]
    assert can_spread(need, [exact, *roomy], others) is spread


def test_a_song_with_layers_on_an_rpc_server_is_for_one_machine(tmp_path: Path) -> None:
    song = new_song(tmp_path, plan=replace(ON_GPU, rpc_server="box:5"))
    with pytest.raises(RequestError, match="layers for one machine, not for a cluster; leave --device out"):
        ClusterSong(song, nano_models(), ComputeOptions())
