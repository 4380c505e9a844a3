"""Number of songs that fit beside each other into one model's memory; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from yuegguf.lm.header import ModelFacts
from yuegguf.planning.compute_options import ComputeOptions, Devices
from yuegguf.planning.cost import KV_BYTES
from yuegguf.planning.plan import Plan, rows_that_fit, usable_memory
from yuegguf.stages.batching import LENGTH_STEP
from yuegguf.stages.stage2 import best_rows

RENDER_BYTES = 2**30
"""Bytes for the codec's work for one song while others are drafted or refined."""


@dataclass(frozen=True)
class DraftNeed:
    """Memory needs of one song in stage 1, if all its sections run to their limits."""

    plan: Plan
    ids: int
    """Maximum ids that its sequences hold together."""
    other_bytes: int = 0
    """Bytes besides model and caches: the decoder of a preview."""


def drafts_fit(
    needs: Sequence[DraftNeed], stage1: ModelFacts, options: ComputeOptions, devices: Devices
) -> bool:
    """Whether these songs can be drafted together.

    llama.cpp makes all sequences of a context as long as the longest one has to be. While the context is
    opened anew for another song, a copy of the caches is in the machine's memory. Beside the open model,
    inputs of a song that joins are encoded and the audio of one that is done is written.
    """
    plans = [need.plan for need in needs]
    longest = -(-max(plan.n_ctx for plan in plans) // LENGTH_STEP) * LENGTH_STEP
    held = replace(plans[0].stage1(), rows=sum(plan.stage1_rows for plan in plans), ids=longest)
    id_bytes = stage1.kv_width * KV_BYTES[held.kv_type]
    besides = sum(round(need.ids * id_bytes) + need.other_bytes for need in needs)
    besides += RENDER_BYTES if len(needs) > 1 else 0
    own, gpu = usable_memory(options, devices), devices.gpu_memory
    inside = own is None or held.own_bytes(stage1, devices.shared_memory) + besides <= own * 9 // 10
    return inside and (gpu is None or held.gpu_bytes(stage1) <= gpu * 9 // 10)


def takes_fit(plan: Plan, takes: int, stage1: ModelFacts, options: ComputeOptions, devices: Devices) -> bool:
    """Whether so many takes can be drafted in one batch and alone, counted as `make_plan` does.

    `plan` is that of one of them, and `stage1` counts the decoder of their previews.
    """
    held = replace(plan.stage1(), rows=takes * plan.stage1_rows)
    own, gpu = usable_memory(options, devices), devices.gpu_memory
    inside = own is None or held.own_bytes(stage1, devices.shared_memory) <= own
    return inside and (gpu is None or held.gpu_bytes(stage1) <= gpu)


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
