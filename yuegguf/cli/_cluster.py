"""A queue of songs on a cluster: the connection, the machines, and the driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yuegguf.cli._cluster_options import ClusterChoice
from yuegguf.cli._console import Console
from yuegguf.cluster.backend import Backend
from yuegguf.cluster.cluster_song import ClusterSong
from yuegguf.cluster.driver import Driver
from yuegguf.cluster.driver_options import DriverOptions
from yuegguf.cluster.ray_backend import RayBackend, connected
from yuegguf.cluster.unit import ModelPlaces
from yuegguf.pipeline.song_job import SongJob
from yuegguf.progress import Progress
from yuegguf.song.folder import SongFolder

if TYPE_CHECKING:
    from yuegguf.server.worker_process import StartWorker


@dataclass(frozen=True)
class ClusterPlace:
    """The songs of a queue on a cluster."""

    output: Console
    backend: Backend
    options: DriverOptions
    roots: Sequence[Path]
    """Folders of songs."""

    one_by_one = False
    """Songs are computed side by side."""

    def runner(self, stop: threading.Event, more: Callable[[], bool]) -> Driver:
        """A driver, once every machine has said whether it sees the storage. Raises StorageError."""
        driver = Driver(self.backend, self.options, stop, more)
        for root in self.roots:
            for reason in driver.check_machines(root).values():
                self.output.warn(f"a machine gets no songs: {reason}")
        count = len(self.backend.nodes()) - len(driver.unfit)
        self.output.say(f"{count} machines see the songs")
        return driver

    def work(
        self, song: SongFolder, job: SongJob, progress: Progress, at_end: Callable[[Any], None]
    ) -> ClusterSong:
        """The work on a song."""
        return ClusterSong(song, job.models, job.compute, progress, at_end, root=job.parent)


@contextmanager
def on_cluster(
    output: Console, choice: ClusterChoice, parallel: int, roots: Sequence[Path]
) -> Iterator[ClusterPlace]:
    """A connection to the cluster for songs in some folders. Raises RequestError."""
    options = driver_options(choice, parallel)
    with connected(choice.address):
        yield ClusterPlace(output, RayBackend(), options, roots)


def driver_options(choice: ClusterChoice, parallel: int) -> DriverOptions:
    """Options of a driver whose machines compute so many songs together."""
    places = ModelPlaces(kit=str(choice.kit or ""))
    return DriverOptions(parallel, places, choice.spread, choice.gpu_memory)


def cluster_worker(output: Console, choice: ClusterChoice, parallel: int, songs: Path) -> StartWorker:
    """Starts workers that give their songs to a cluster, which answers now. Raises RequestError."""
    from yuegguf.cluster.served import ServedCluster
    from yuegguf.server.worker_process import WorkerProcess

    with on_cluster(output, choice, parallel, []) as place:
        output.say(f"{len(place.backend.nodes())} machines are there")
    return partial(WorkerProcess, main=ServedCluster(choice.address, place.options, songs))
