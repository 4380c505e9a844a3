"""The number of songs that share a model: from each one's own length, and the memory of a new context."""

from __future__ import annotations

from dataclasses import replace

import pytest

from yuegguf.lm.header import ModelFacts
from yuegguf.planning.compute_options import ComputeOptions, Devices
from yuegguf.planning.plan import Plan
from yuegguf.planning.together import RENDER_BYTES, DraftNeed, drafts_fit, rows_for_songs

GIB = 2**30
STAGE1 = ModelFacts(bytes=3 * GIB, layers=32, kv_width=2 * 32 * 512, heads=32, n_ctx_train=16384)
STAGE2 = ModelFacts(bytes=GIB, layers=32, kv_width=2 * 32 * 2048, heads=16, n_ctx_train=8192)
PLAN = Plan(4096, 2, 4, 2, "f16", None, 0, 0)
OPTIONS = ComputeOptions()


def songs(count: int, n_ctx: int = 4096, other: int = 0) -> list[DraftNeed]:
    return [DraftNeed(replace(PLAN, n_ctx=n_ctx), n_ctx + 1000, other)] * count


def most(gib: float, n_ctx: int = 4096, other: int = 0, **gpu: int) -> int:
    """Songs that fit into so much memory."""
    devices = Devices(2, round(gib * GIB), **gpu)  # type: ignore[arg-type]
    return next(n for n in range(40, 0, -1) if drafts_fit(songs(n, n_ctx, other), STAGE1, OPTIONS, devices))


def test_the_number_follows_from_memory_and_length() -> None:
    # 64 KiB an id: two sequences of 4,096 ids and a copy of 5,096 ids are 0.81 GiB a song
    assert [most(gib) for gib in (6, 8, 12, 24)] == [1, 3, 8, 21]
    assert [most(24, n_ctx) for n_ctx in (2048, 4096, 8192, 16384)] == [39, 21, 11, 5]


def test_all_sequences_are_as_long_as_the_longest() -> None:
    devices = Devices(2, 12 * GIB)
    assert drafts_fit(songs(8), STAGE1, OPTIONS, devices)
    assert not drafts_fit([*songs(7), *songs(1, 8192)], STAGE1, OPTIONS, devices)
    assert drafts_fit([*songs(3), *songs(1, 8192)], STAGE1, OPTIONS, devices)


def test_beside_others_there_is_room_for_the_codec() -> None:
    """A song alone is planned with the codec closed while it is drafted."""
    load = PLAN.stage1().own_bytes(STAGE1)
    alone, two = (load + 5096 * 64 * 1024), (replace(PLAN, stage1_rows=4).stage1().own_bytes(STAGE1))
    two += 2 * 5096 * 64 * 1024 + RENDER_BYTES
    for count, needed in ((1, alone), (2, two)):
        limit = -(-needed * 10 // 9)
        fits = [drafts_fit(songs(count), STAGE1, OPTIONS, Devices(2, limit + more)) for more in (-8, 8)]
        assert fits == [False, True], count


def test_previews_and_a_limit_of_memory_count() -> None:
    assert most(12, other=GIB) < most(12)
    limited = ComputeOptions(max_memory=7 * GIB)
    assert drafts_fit(songs(2), STAGE1, limited, Devices(2, 64 * GIB))
    assert not drafts_fit(songs(3), STAGE1, limited, Devices(2, 64 * GIB))
    assert drafts_fit(songs(32), STAGE1, OPTIONS, Devices(2, None))


def test_caches_on_a_gpu_count_there_and_their_copy_here() -> None:
    on_gpu = [replace(need, plan=replace(PLAN, stage1_gpu_layers=-1)) for need in songs(8)]
    for gpu, own, fits in ((12, 6, True), (7, 6, False), (12, 2, False)):
        devices = Devices(2, own * GIB, gpu=True, gpu_memory=gpu * GIB)
        assert drafts_fit(on_gpu, STAGE1, OPTIONS, devices) is fits, (gpu, own)


@pytest.mark.parametrize(("gib", "rows"), [(64, 16), (10, 8), (8, 4)])
def test_rows_of_several_songs_leave_room_for_the_audio(gib: int, rows: int) -> None:
    lengths = [300] * 32
    found = rows_for_songs(PLAN, lengths, STAGE2, OPTIONS, Devices(2, gib * GIB))
    assert found == rows
    more = rows_for_songs(PLAN, lengths, STAGE2, OPTIONS, Devices(2, gib * GIB + RENDER_BYTES))
    assert more >= found


def test_rows_are_those_asked_for() -> None:
    asked = ComputeOptions(stage2_rows=5)
    assert rows_for_songs(PLAN, [300] * 32, STAGE2, asked, Devices(2, 64 * GIB)) == 5
    assert rows_for_songs(PLAN, [300] * 3, STAGE2, asked, Devices(2, 64 * GIB)) == 3
