"""Plans of songs for models and machines that are not there."""

from __future__ import annotations

from typing import Any

from yuegguf.lm.header import ModelFacts
from yuegguf.planning.compute_options import ComputeOptions, Devices
from yuegguf.planning.plan import Plan, StageFacts, make_plan, revise_plan
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import SongRequest

GIB = 2**30
LAYERED1 = ModelFacts(6 * GIB, 2 * 32 * 4 * 128, 32, 16384, layers=32)
"""Stage 1 with layers that a GPU can hold: YuE's 7B, 64 KiB an id at f16."""
LAYERED2 = ModelFacts(2 * GIB, 2 * 16 * 32 * 128, 16, 8192, layers=16)


def plan_of(
    request: SongRequest,
    stage1: ModelFacts,
    stage2: ModelFacts,
    options: ComputeOptions,
    cores: int,
    free: int | None,
    **gpu: Any,
) -> Plan:
    """The plan of a song on a machine with so many cores and bytes free; `gpu` as in Devices."""
    return make_plan(prepare(request), StageFacts(stage1, stage2), options, Devices(cores, free, **gpu))


def revised(
    plan: Plan,
    request: SongRequest,
    stage1: ModelFacts,
    stage2: ModelFacts,
    options: ComputeOptions,
    free: int | None,
    phase: str,
    **gpu: Any,
) -> Plan:
    """The plan of a song that goes on with a phase; `gpu` as in Devices."""
    facts = StageFacts(stage1, stage2)
    return revise_plan(plan, prepare(request), facts, options, Devices(4, free, **gpu), phase=phase)
