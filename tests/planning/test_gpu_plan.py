"""Plans of songs with layers on a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plans import GIB, LAYERED1, LAYERED2, plan_of, revised

from yuegguf.errors import NotEnoughMemory
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import WORKSPACE
from yuegguf.planning.plan import Plan
from yuegguf.request.song_request import SongRequest


def request() -> SongRequest:
    return SongRequest("pop", "[verse]\nla la\n" * 6, segment_seconds=30)


def on_gpu(free: float | None, **options: object) -> Plan:
    memory = None if free is None else int(free * GIB)
    asked = ComputeOptions(gpu=True, **options)  # type: ignore[arg-type]
    return plan_of(request(), LAYERED1, LAYERED2, asked, 4, 64 * GIB, gpu=True, gpu_memory=memory)


def test_a_gpu_takes_as_many_layers_of_each_stage_as_it_holds() -> None:
    whole = on_gpu(40)
    assert (whole.stage1_gpu_layers, whole.stage2_gpu_layers) == (-1, -1)
    assert whole.flash_attention
    assert whole.ubatch == 512
    assert whole.memory == WORKSPACE  # all weights and caches are on the GPU
    assert whole.gpu_memory == max(
        held.gpu_bytes(model) for held, model in ((whole.stage1(), LAYERED1), (whole.stage2(), LAYERED2))
    )
    half = on_gpu(5)
    assert (half.stage1_gpu_layers, half.stage2_gpu_layers) == (15, -1)
    more = replace(half.stage1(), gpu_layers=16)
    assert half.stage1().gpu_bytes(LAYERED1) <= 4.5 * GIB < more.gpu_bytes(LAYERED1)
    assert on_gpu(0.5) == plan_of(
        request(), LAYERED1, LAYERED2, ComputeOptions(), 4, 64 * GIB
    )  # as without a GPU
    assert on_gpu(None).stage1_gpu_layers == -1  # its memory is unknown


def test_rows_of_stage_2_follow_the_memory_that_holds_their_caches() -> None:
    assert on_gpu(80).stage2_rows == 30  # sixty chunks in two waves
    assert on_gpu(80, stage2_rows=4).stage2_rows == 4
    tight = on_gpu(8)
    assert tight.stage2_gpu_layers == -1
    assert tight.stage2().gpu_bytes(LAYERED2) <= 8 * GIB * 0.9
    assert on_gpu(None).stage2_rows == 4


def test_layers_that_are_requested_are_taken_or_refused() -> None:
    assert on_gpu(40, gpu_layers=5).stage1_gpu_layers == on_gpu(40, gpu_layers=5).stage2_gpu_layers == 5
    assert on_gpu(40, gpu_layers=0).stage1_gpu_layers == 0
    with pytest.raises(NotEnoughMemory) as caught:
        on_gpu(5, gpu_layers=-1)
    told = (
        "stage 1 needs about 8.7 GiB of the GPU's memory and 5.0 GiB may be used; --gpu-layers 17 would fit"
    )
    assert str(caught.value) == told
    fitting = on_gpu(5, gpu_layers=17)
    assert (fitting.stage1_gpu_layers, fitting.stage2_gpu_layers) == (17, -1)  # stage 2 has sixteen
    assert on_gpu(80, gpu_layers=8).stage2_rows == 16  # half of their caches stay here


def test_a_gpu_without_memory_of_its_own_takes_the_machines() -> None:
    gpu = {"gpu": True, "gpu_memory": 16 * GIB, "shared_memory": True}
    with pytest.raises(NotEnoughMemory, match=r"8\.0 GiB may be used; --kv-type q8_0"):
        plan_of(request(), LAYERED1, LAYERED2, ComputeOptions(gpu=True), 4, 8 * GIB, **gpu)


def test_layers_of_a_song_that_goes_on_without_its_gpu_are_computed_and_counted_here() -> None:
    made = on_gpu(40, stage2_rows=4)
    for named in (ComputeOptions(), ComputeOptions(gpu=False)):
        moved = revised(made, request(), LAYERED1, LAYERED2, named, 64 * GIB, "draft")
        assert moved == replace(
            made, stage1_gpu_layers=0, stage2_gpu_layers=0, memory=moved.memory, gpu_memory=0
        )
        assert moved.memory == moved.stage1().own_bytes(LAYERED1) > LAYERED1.bytes
    with pytest.raises(NotEnoughMemory, match=r"stage 1 needs about 8\.\d GiB and 8\.0 GiB may be used"):
        revised(made, request(), LAYERED1, LAYERED2, ComputeOptions(), 8 * GIB, "draft")
    with pytest.raises(NotEnoughMemory, match=r"stage 2 needs .* may be used; --stage2-batch 1 would fit"):
        revised(made, request(), LAYERED1, LAYERED2, ComputeOptions(), 3 * GIB, "refine")
    card = replace(made, main_gpu=1)
    assert revised(card, request(), LAYERED1, LAYERED2, ComputeOptions(), None, "draft").main_gpu is None
    for phase in ("sketch", "master", "done"):  # no layer is computed any more
        assert revised(card, request(), LAYERED1, LAYERED2, ComputeOptions(), 1, phase).main_gpu == 1


def test_layers_of_a_song_that_goes_on_must_fit_on_the_gpu_that_is_there() -> None:
    made = on_gpu(40)

    def there(free: int, phase: str, **options: int) -> Plan:
        asked = ComputeOptions(**options)  # type: ignore[arg-type]
        gpu = {"gpu": True, "gpu_memory": free * GIB}
        return revised(made, request(), LAYERED1, LAYERED2, asked, 64 * GIB, phase, **gpu)

    assert there(40, "draft") == made
    with pytest.raises(NotEnoughMemory, match=r"GPU's memory and 5\.0 GiB may be used; --gpu-layers 17"):
        there(5, "draft")
    assert there(20, "draft", gpu_layers=17, stage2_rows=4).stage1_gpu_layers == 17
