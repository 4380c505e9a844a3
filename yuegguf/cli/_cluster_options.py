"""Options of commands that give songs to a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from yuegguf.cli._groups import Group
from yuegguf.cli._options import PATH, size


@dataclass(frozen=True)
class ClusterChoice:
    """A Ray cluster, and how songs are computed on it."""

    address: str
    spread: bool = False
    kit: Path | None = None
    gpu_memory: int | None = None

    def arguments(self) -> list[str]:
        """The options as they are written on the command line."""
        words = ["--cluster", self.address]
        words += ["--spread"] if self.spread else []
        words += ["--kit", str(self.kit)] if self.kit else []
        return words + (["--gpu-memory", str(self.gpu_memory)] if self.gpu_memory else [])


def _choice(
    *, cluster: str | None, spread: bool, kit: Path | None, gpu_memory: int | None
) -> ClusterChoice | None:
    if cluster is None:
        if spread or kit is not None or gpu_memory is not None:
            raise click.UsageError("--spread, --kit and --gpu-memory belong to --cluster")
        return None
    return ClusterChoice(cluster, spread, kit.absolute() if kit else None, gpu_memory)


cluster_options = Group(
    "cluster",
    _choice,
    click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Compute on a Ray cluster: auto, ray://HOST:10001, HOST:6379; local = one on this machine.",
    ),
    click.option("--spread", is_flag=True, help="Refine and render one song on several machines at once."),
    click.option(
        "--kit", type=PATH, metavar="DIR", help="Offline kit from which machines install missing models."
    ),
    click.option(
        "--gpu-memory", type=size, help="Memory of a GPU of the cluster, which songs share [default: not]."
    ),
)
