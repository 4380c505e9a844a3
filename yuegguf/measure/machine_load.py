"""Slowdown of this machine by other programs, its battery or a quota, against what was measured before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yuegguf.planning import hardware
from yuegguf.planning.timing import MeasurementCache, bandwidth, cache_file

SAMPLE_BYTES = 1 << 26
"""Bytes that are read to compare the memory's bandwidth: some 20 ms."""
NOTICED_FROM = 1.3
"""Slowdown from which on it is noticed."""


@dataclass(frozen=True)
class MachineLoad:
    """Slowdown of the machine now."""

    factor: float = 1.0
    """Times that a step takes longer than when the machine was measured; at least 1."""
    notices: tuple[str, ...] = ()
    """A sentence per cause."""


def machine_load(threads: int, cache: Path | None = None) -> MachineLoad:
    """The slowdown by load, quota, battery, and by a bandwidth below the best that was measured here."""
    cores = hardware.physical_cores()
    factors, notices = [1.0], []
    waiting = hardware.runnable_processes()
    share = (waiting + threads) / max(cores, threads)
    if share > NOTICED_FROM:
        factors.append(share)
        notices.append(f"other programs use {waiting:.1f} of {cores} core{'s' * (cores != 1)}")
    slower = _slower_memory(threads, cache or cache_file("bandwidth.json"))
    if slower > NOTICED_FROM:
        factors.append(slower)
        notices.append(f"memory is {slower:.1f} times slower than it was measured before")
    if hardware.on_battery():
        notices.append("the machine runs on its battery, which may slow it down")
    return MachineLoad(max(factors), tuple(notices))


def _slower_memory(threads: int, path: Path | None) -> float:
    """The best bandwidth that was measured by that of now."""
    cache = MeasurementCache(path, float)
    facts = (hardware.cpu_name(), threads)
    now, best = bandwidth(threads, SAMPLE_BYTES), cache.find(*facts) or 0.0
    if now > best:
        cache.keep(now, *facts)
    return best / now
