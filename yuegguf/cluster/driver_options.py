"""Options of a driver."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from yuegguf.cluster.unit import ModelPlaces

SILENT_SECONDS = 30.0
"""Seconds without a sign of life after which another's lease is taken over."""
PLACE_SECONDS = 60.0
"""Seconds that a unit waits for a machine that is large enough."""


@dataclass(frozen=True)
class DriverOptions:
    """Options of a driver."""

    parallel: int = 1
    places: ModelPlaces = field(default_factory=ModelPlaces)
    spread: bool = False
    card_bytes: int | None = None
    """Memory of a GPU of the cluster; None = a unit takes a whole one."""
    silent_seconds: float = SILENT_SECONDS
    place_seconds: float = PLACE_SECONDS
    clock: Callable[[], float] = time.monotonic
