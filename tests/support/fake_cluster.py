"""A cluster in one process: machines that take a song's phase by writing what it leaves in the folder."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from yuegguf.cluster.cluster_song import ClusterSong
from yuegguf.cluster.driver import Driver
from yuegguf.cluster.driver_options import DriverOptions
from yuegguf.cluster.unit import Control, Loss, Need, Node, Outcome, Report, Unit, UnitSong, error_facts
from yuegguf.errors import EngineError, FolderBusy
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import create
from yuegguf.pipeline.song_job import SongJob
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.prepared import prepare
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import SongRequest
from yuegguf.song import lease
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import HeldLease, Holder, Lease, leased
from yuegguf.song.state import where

FRAMES = 4
OPTIONS = ComputeOptions(threads=1, stage2_rows=2, snapshot_seconds=0)
LARGE = 2**40


def machine(name: str, cpus: float = 1.0, memory: int = LARGE) -> Node:
    return Node(name, name, cpus, memory, 0.0)


def take_phase(unit: Unit, song: UnitSong) -> Outcome:
    """Do a phase of a song by its lease, as a machine does, with codes of zeros."""
    folder = SongFolder.open(Path(song.folder))
    try:
        with (
            leased(folder.path, unit.name, "machine", song.supersede),
            folder.claimed(by_lease=True),
        ):
            if where(folder) == unit.phase == "draft":
                folder.save_stage1([FRAMES], np.zeros((2, FRAMES), np.int16))
                folder.advance("refine")
            elif where(folder) == unit.phase == "refine":
                folder.save_stage2(np.zeros((2, 8, FRAMES), np.int16))
                folder.advance("master")
            elif where(folder) == unit.phase == "master":
                (folder.path / "mix.wav").write_bytes(b"the sound")
                folder.advance("done", files=("mix.wav",))
            return Outcome(song.folder, "done", "done" if unit.phase == "master" else where(folder))
    except FolderBusy as error:
        return Outcome(song.folder, "busy", error=error_facts(error))


Act = Callable[[Unit, str], "Report | Loss | None"]
"""What becomes of a unit on a machine; None = it is done as usual."""


class FakeCluster:
    """Machines that run one unit after the other, and whatever a test wants to happen instead."""

    def __init__(self, nodes: Collection[Node], act: Act = lambda unit, node: None) -> None:
        self.machines, self._act = list(nodes), act
        self.waiting: deque[tuple[Unit, Need, Collection[str]]] = deque()
        self.ran: list[tuple[str, str, str]] = []
        """Phase, song and machine of each unit that was run."""
        self.most_waiting = 0
        self.unfit: dict[str, str] = {}
        """Ids of the machines that cannot work on any song → why."""

    def nodes(self) -> list[Node]:
        return list(self.machines)

    def submit(self, unit: Unit, need: Need, refused: Collection[str]) -> None:
        self.waiting.append((unit, need, refused))
        self.most_waiting = max(self.most_waiting, len(self.waiting))

    def wait(self, seconds: float) -> list[tuple[str, Report | Loss]]:
        for _ in range(len(self.waiting)):
            unit, need, refused = self.waiting.popleft()
            able = [node for node in self.machines if node.holds(need) and node.id not in refused]
            if able:
                return [(unit.name, self._run(unit, able[len(self.ran) % len(able)].id))]
            self.waiting.append((unit, need, refused))
        return []

    def kill(self, unit: str) -> None:
        for each in list(self.waiting):
            if each[0].name == unit:
                self.waiting.remove(each)

    def check(self, control: Control, only: Collection[str] = ()) -> dict[str, str]:
        return {node: why for node, why in self.unfit.items() if not only or node in only}

    def _run(self, unit: Unit, node: str) -> Report | Loss:
        self.ran += [(unit.phase, Path(song.folder).name, node) for song in unit.songs]
        return self._act(unit, node) or Report(node, tuple(take_phase(unit, song) for song in unit.songs))


def abandoned(folder: Path, unit: str, supersede: Lease | None = None, machine: str = "") -> HeldLease:
    """The lease of a process that is gone."""
    return lease._take(folder, Holder(secrets.token_hex(8), unit, "elsewhere", machine), supersede)


def failing(unit: Unit, node: str, text: str = "llama.cpp refused it") -> Report:
    """A report that every song of a unit has failed."""
    error = error_facts(EngineError(f"{text} on {node}", "try again"))
    return Report(node, tuple(Outcome(song.folder, "failed", error=error) for song in unit.songs))


def new_songs(parent: Path, count: int, seconds: float = 1.0, *, whole: bool = False) -> list[SongFolder]:
    """Songs of the bundled models that nothing is done of; `whole` ones are as long as they may be."""
    sampling = Sampling(min_new_tokens=round(100 * seconds)) if whole else Sampling()
    return [
        create.start(
            SongJob(
                prepare(
                    SongRequest(
                        "pop", "[verse]\nla la", seed=seed, segment_seconds=seconds, sampling=sampling
                    )
                ),
                nano_models(),
                parent,
                f"song{seed}",
                OPTIONS,
            )
        )
        for seed in range(count)
    ]


def cluster_song(folder: SongFolder, **options: object) -> ClusterSong:
    return ClusterSong(folder, nano_models(), OPTIONS, **options)  # type: ignore[arg-type]


class Clock:
    """Seconds that pass by one with every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def driver_of(cluster: FakeCluster, *songs: ClusterSong, **options: object) -> Driver:
    """A driver with its own clock and these songs."""
    driver = Driver(cluster, DriverOptions(clock=Clock(), **options))  # type: ignore[arg-type]
    driver.submit(*songs)
    return driver
