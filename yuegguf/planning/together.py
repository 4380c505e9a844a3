"""Number of songs that fit beside each other into one model's memory; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yuegguf.lm.header import ModelFacts
from yuegguf.planning.compute_options import ComputeOptions, Devices
from yuegguf.planning.plan import Plan, rows_that_fit, usable_memory
from yuegguf.stages.stage2 import best_rows

RENDER_BYTES = 2**30
"""Bytes for writing the audio of a song while others are refined."""


def drafts_fit(plans: Sequence[Plan], stage1: ModelFacts, options: ComputeOptions, devices: Devices) -> bool:
    """Whether songs of these plans can be drafted together, even if all run to their limits.

    llama.cpp makes all sequences of a context as long as the longest one has to be. While the context is
    opened anew for a longer song, what the songs hold is there twice: at most one more sequence for each.
    """
    sequences = sum(plan.stage1_rows for plan in plans) + len(plans)
    held = replace(plans[0].stage1(), rows=sequences, ids=max(plan.n_ctx for plan in plans))
    own, gpu = usable_memory(options, devices), devices.gpu_memory
    inside = own is None or held.own_bytes(stage1, devices.shared_memory) <= own * 9 // 10
    return inside and (gpu is None or held.gpu_bytes(stage1) <= gpu * 9 // 10)


def rows_for_songs(
    plan: Plan, lengths: Sequence[int], stage2: ModelFacts, options: ComputeOptions, devices: Devices
) -> int:
    """Number of rows that refines chunks of these lengths, of several songs, fastest.

    `plan` is that of one of them. Memory is left for the audio of songs that are done before the others.
    """
    if options.stage2_rows is not None:
        return min(options.stage2_rows, len(lengths))
    own = usable_memory(options, devices)
    left = None if own is None else max(0, own - RENDER_BYTES)
    most = rows_that_fit(plan, stage2, replace(options, max_memory=left), replace(devices, memory=left))
    return best_rows(lengths, max(most, plan.stage2_rows), plan.step_effort)
