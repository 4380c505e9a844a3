"""The driver of a cluster with a fake engine: its seconds and memory for thousands of songs.

    python -m benchmarks.cluster_simulation [--songs 10000] [--machines 100] [--ray 300]

Every song is a folder with a finished song of nano, by hard links, that counts as one to be drafted; a unit
takes no time and only reports the phase that follows. So what remains is the driver's own: begin a song, look
at its lease, submit, take the report, read the finished song. With --ray so many songs go through a real Ray
on this machine, with the same units.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path

import psutil

from yuegguf.cluster.backend import Backend
from yuegguf.cluster.cluster_song import ClusterSong
from yuegguf.cluster.driver import Driver
from yuegguf.cluster.driver_options import DriverOptions
from yuegguf.cluster.ray_backend import RayBackend, connected
from yuegguf.cluster.unit import Control, Loss, Need, Node, Outcome, Report, Unit
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import create
from yuegguf.pipeline.run import run_song
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import silent
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import SongRequest
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import Phase

FOLLOWING: dict[str, Phase] = {"draft": "refine", "refine": "master", "master": "done"}
OPTIONS = ComputeOptions(threads=1, stage2_rows=2, snapshot_seconds=0)


def report(unit: Unit, node: str, *_: object) -> Report:
    """The report of a unit that took no time."""
    return Report(node, tuple(Outcome(song.folder, "done", FOLLOWING[unit.phase]) for song in unit.songs))


class Machines:
    """Machines of no time."""

    def __init__(self, count: int) -> None:
        self._nodes = [Node(f"m{number}", f"m{number}", 8.0, 2**36, 0.0) for number in range(count)]
        self._units: deque[Unit] = deque()

    def nodes(self) -> list[Node]:
        """All of them."""
        return self._nodes

    def submit(self, unit: Unit, need: Need, refused: Collection[str]) -> None:
        """Run a unit."""
        self._units.append(unit)

    def wait(self, seconds: float) -> list[tuple[str, Report | Loss]]:
        """The oldest units, one for each machine."""
        ended = [self._units.popleft() for _ in range(min(len(self._units), len(self._nodes)))]
        return [(unit.name, report(unit, "m0")) for unit in ended]

    def kill(self, unit: str) -> None:
        """End nothing, since no unit runs."""

    def check(self, control: Control, only: Collection[str] = ()) -> dict[str, str]:
        """All of them see the storage."""
        return {}


def finished_song(folder: Path) -> Path:
    """A finished song of nano."""
    request = SongRequest("pop", "[verse] la la", segment_seconds=1.0)
    song = create.start(SongJob(prepare(request), nano_models(), folder, None, OPTIONS))
    run_song(song, nano_models(), OPTIONS, silent, None)
    return song.path


def link(song: Path, place: Path) -> SongFolder:
    """Another folder with the same files."""
    place.mkdir()
    for file in song.iterdir():
        if file.is_file():
            os.link(file, place / file.name)
    return SongFolder.open(place)


def simulate(backend: Backend, song: Path, songs: Path, count: int) -> None:
    """Bring so many songs to their ends, and print what it took."""
    songs.mkdir()
    left, models, ended = iter(range(count)), nano_models(), list[ClusterSong]()

    def more() -> bool:
        number = next(left, None)
        if number is not None:
            work = ClusterSong(link(song, songs / f"song-{number}"), models, OPTIONS, at_end=ended.append)
            work.phase = "draft"
            driver.submit(work)
        return number is not None

    driver = Driver(backend, DriverOptions(), more=more)
    before, begun = psutil.Process().memory_info().rss, time.perf_counter()
    used = time.process_time()
    driver.run()
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    grown = psutil.Process().memory_info().rss - before
    done = sum(work.result() is not None for work in ended)
    print(f"{done} songs in {seconds:.1f} s: {1000 * seconds / count:.2f} ms a song by the clock,")
    print(f"{1000 * used / count:.2f} ms of the driver's core; its memory grew by {grown / 2**20:.0f} MiB")


def main() -> None:
    """Simulate and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--songs", type=int, default=10_000)
    parser.add_argument("--machines", type=int, default=100)
    parser.add_argument("--ray", type=int, default=0, help="songs through a real Ray on this machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        song = finished_song(Path(name) / "made")
        if options.songs:
            print(f"{options.machines} machines, no Ray: ", end="")
            simulate(Machines(options.machines), song, Path(name) / "songs", options.songs)
        if options.ray:
            with connected("local"):
                print("Ray on this machine: ", end="")
                simulate(RayBackend(report), song, Path(name) / "songs of ray", options.ray)


if __name__ == "__main__":
    main()
