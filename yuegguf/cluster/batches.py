"""Songs that make up a unit; pure functions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from yuegguf.cluster.cluster_song import ClusterSong
from yuegguf.cluster.unit import UNIT_PHASES, unit_phase


def ready_songs(songs: Iterable[ClusterSong], now: float) -> deque[ClusterSong]:
    """The songs that a unit may begin with now, those of the later phases first."""
    ready = [song for song in songs if song.is_ready(now) and song.phase != "done"]
    return deque(sorted(ready, key=lambda song: -UNIT_PHASES.index(unit_phase(song.phase))))


def next_batch(ready: deque[ClusterSong], parallel: int) -> list[ClusterSong]:
    """Take the songs of the next unit: the first that is ready, and up to `parallel` computed together."""
    lead = ready.popleft()
    phase = unit_phase(lead.phase)
    if lead.in_trouble or parallel == 1 or phase == "master":  # alone
        return [lead]
    alike = [
        song
        for song in ready
        if unit_phase(song.phase) == phase and song.load == lead.load and not song.in_trouble
    ][: parallel - 1]
    for song in alike:
        ready.remove(song)
    return [lead, *alike]
