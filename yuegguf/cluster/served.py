"""A server's worker that gives its songs to a cluster: `serve --cluster`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from yuegguf.cluster.backend import Backend
from yuegguf.cluster.cluster_song import ClusterSong
from yuegguf.cluster.driver import Driver
from yuegguf.cluster.driver_options import DriverOptions
from yuegguf.cluster.ray_backend import RayBackend, connected
from yuegguf.models.resolve import Models
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Progress
from yuegguf.server.worker import WorkerFacts, ignore_signals, run_worker
from yuegguf.song.folder import SongFolder


class LateDriver:
    """A driver that is there once there is a song, since a worker of tasks needs none."""

    def __init__(self, place: ServedCluster, stop: threading.Event, more: Callable[[], bool]) -> None:
        self._place, self._stop, self._more = place, stop, more
        self._driver: Driver | None = None
        self._connection = ExitStack()
        """Open until the process ends."""

    def connect(self) -> None:
        """Connect to the cluster, once. Raises RequestError, StorageError."""
        if self._driver is not None:
            return
        place = self._place
        self._connection.enter_context(connected(place.address))
        if threading.current_thread() is threading.main_thread():
            ignore_signals()  # again, since Ray installs its own handlers
        driver = Driver(place.make_backend(), place.options, self._stop, self._more)
        driver.check_machines(place.songs)
        self._driver = driver

    def submit(self, *songs: ClusterSong) -> None:
        """Add songs."""
        assert self._driver is not None
        self._driver.submit(*songs)

    def run(self) -> None:
        """Work until every song has ended."""
        if self._driver is not None:
            self._driver.run()


@dataclass
class ServedCluster:
    """The place of a worker's songs: a cluster, to which it connects with its first song."""

    address: str
    options: DriverOptions
    songs: Path
    """Folder of songs."""
    make_backend: Callable[[], Backend] = RayBackend
    late: LateDriver | None = None

    def __call__(self, link: Connection, facts: WorkerFacts) -> None:
        """Be a worker until the server says stop."""
        run_worker(link, facts, self)

    def runner(self, stop: threading.Event, more: Callable[[], bool]) -> LateDriver:
        """The driver."""
        self.late = LateDriver(self, stop, more)
        return self.late

    def work(
        self,
        folder: SongFolder,
        models: Models,
        compute: ComputeOptions,
        progress: Progress,
        at_end: Callable[[Any], None],
        *,
        refine: bool,
    ) -> ClusterSong:
        """The work on a song; with `refine` beyond a draft that was asked for.

        Raises RequestError, StorageError where the cluster cannot be reached.
        """
        assert self.late is not None
        self.late.connect()
        return ClusterSong(folder, models, compute, progress, at_end, root=self.songs, refine=refine)
