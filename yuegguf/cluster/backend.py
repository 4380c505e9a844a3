"""The cluster as a driver sees it: machines that run units."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from yuegguf.cluster.unit import Control, Loss, Need, Node, Report, Unit


class Backend(Protocol):
    """The cluster: machines that run units."""

    def nodes(self) -> list[Node]:
        """The machines that are there now."""

    def submit(self, unit: Unit, need: Need, refused: Collection[str]) -> None:
        """Run a unit once on a machine whose id is not `refused`."""

    def wait(self, seconds: float) -> list[tuple[str, Report | Loss]]:
        """Names of units that have ended, with what became of them; waits for one at most so long."""

    def kill(self, unit: str) -> None:
        """End a unit at once; `wait` does not tell of it any more."""

    def check(self, control: Control) -> dict[str, str]:
        """Ids of the machines that cannot work on the songs beside a control folder → why."""
