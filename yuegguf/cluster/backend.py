"""The cluster as a driver sees it: machines that run units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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

    def check(self, control: Control, only: Collection[str] = ()) -> dict[str, str]:
        """Ids of the machines that cannot work on the songs beside a control folder → why.

        `only` are the ids of those that are asked once more, and soon have to answer; empty = all.
        """


def still_unfit(backend: Backend, unfit: Mapping[str, str], controls: Collection[Control]) -> dict[str, str]:
    """The machines that still cannot work on songs → why, of those that could not, as in a lost network."""
    asked = {node.id for node in backend.nodes()} & set(unfit)
    found = {node: why for node, why in unfit.items() if node not in asked}
    for control in controls if asked else ():
        found |= backend.check(control, asked)
    return found
