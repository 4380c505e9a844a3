"""Resources that a unit asks of a machine, from the plans of its songs; pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from yuegguf.cluster.unit import Need, Node, UnitPhase
from yuegguf.errors import NotEnoughMemory, StorageError
from yuegguf.planning.plan import Plan, StageFacts, most_rows
from yuegguf.planning.together import RENDER_BYTES

SHARES = 100
"""Shares of a card that units are given: so many units of one hundredth each fit on one."""
COORDINATOR = Need(0.0, RENDER_BYTES)
"""Need of a unit whose waves and stems are computed elsewhere: it waits for them, and mixes the stems."""


def need_of(
    plans: Sequence[Plan], facts: StageFacts, phase: UnitPhase, card_bytes: int | None = None
) -> Need:
    """Cores, memory and GPUs of a unit whose songs have these plans and share their models.

    `card_bytes` is the memory of a GPU of the cluster: a unit takes the share of it that its layers need, or
    several; None = a whole GPU.
    """
    cpus = float(max(plan.threads for plan in plans))
    if phase == "master":
        return Need(cpus, RENDER_BYTES)
    if phase == "draft":
        longest, model = max(plans, key=lambda plan: plan.n_ctx), facts.stage1
        load = replace(longest.stage1(), rows=sum(plan.stage1_rows for plan in plans))
    else:
        most, model = max(most_rows(plan) for plan in plans), facts.stage2
        together = min(most, sum(plan.stage2_rows for plan in plans))
        load = replace(plans[0].stage2(), rows=max(together, *(plan.stage2_rows for plan in plans)))
    beside = RENDER_BYTES if len(plans) > 1 and phase == "refine" else 0  # audio of songs that are done
    return Need(cpus, load.own_bytes(model) + beside, gpu_share(load.gpu_bytes(model), card_bytes))


def can_spread(need: Need, nodes: Sequence[Node], others: int) -> bool:
    """Whether a unit whose parts have this need may be spread over these machines, while `others` are.

    Each of them waits for its parts on some machine; one machine at least must then have room for a part.
    """
    beside = replace(need, memory=need.memory + COORDINATOR.memory)
    return others < sum(node.holds(beside) for node in nodes)


def gpu_share(needed: int, card_bytes: int | None) -> float:
    """GPUs that layers of so many bytes need, as Ray counts them: a share of one, or a whole number."""
    if not needed:
        return 0.0
    if card_bytes is None:
        return 1.0
    share = needed / card_bytes
    return math.ceil(share * SHARES) / SHARES if share <= 1 else float(math.ceil(share))


def none_fit(reason: str) -> StorageError:
    """The error of songs on which no machine of the cluster can work, whatever they need."""
    return StorageError(
        f"no machine of the cluster can work on these songs: {reason}",
        "mount the same storage at the same path on every machine, and install the same version there",
    )


def too_small(need: Need, unfit: Sequence[str]) -> NotEnoughMemory:
    """The error of a song that no machine can hold; `unfit` says why some of them get no songs."""
    gpus = f" and {need.gpus:g} GPUs" if need.gpus else ""
    return NotEnoughMemory(
        f"no machine of the cluster has {need.cpus:g} cores, {need.memory / 2**30:.1f} GiB{gpus} for it"
        + (f" ({unfit[0]})" if unfit else ""),
        "use fewer --threads, --max-memory, or add machines",
    )
