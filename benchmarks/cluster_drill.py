"""Songs on a Ray cluster whose machines are killed and added at random, and whose driver is killed.

    python -m benchmarks.cluster_drill [--songs 30] [--machines 3] [--driver-kills 2] [--sections 12]

Every machine is a process of this one, with one core. The songs are generated first one after the other, then
by the cluster; all must be there, each equal to itself alone, none twice. Then one longer song is refined by
one machine, and spread over two.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SAME = ("tokens.log", "stage1.npz", "stage2.npz", "markers.txt", "mix.wav", "vocals.wav", "instrumental.wav")
"""Files that a song has in common with itself alone."""
SHORT = "[verse] la la la"
"""Lyrics of one section."""


def queue(folder: Path, count: int, lyrics: str, seconds: float) -> Path:
    """A queue of nano songs in a folder of its own."""
    folder.mkdir(parents=True)
    songs = [{"name": f"song{number}", "seed": number} for number in range(count)]
    defaults = {
        "model": "nano",
        "genre": "pop",
        "lyrics": lyrics,
        "segment-seconds": seconds,
        "threads": 1,
        "stage2-batch": 2,
        "output-dir": str(folder / "songs"),
    }
    file = folder / "songs.yaml"
    file.write_text(json.dumps({"defaults": defaults, "songs": songs}), "utf-8")
    return file


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command `run` in a process of its own."""
    command = [sys.executable, "-m", "yuegguf", "run", *arguments, "--json", "-q"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """The songs of a queue that has ended."""
    out, _ = process.communicate()
    songs: list[dict[str, Any]] = json.loads(out)["songs"]
    return songs


def contents(songs: list[dict[str, Any]]) -> list[list[bytes]]:
    """Content of each song's files."""
    return [[(Path(song["folder"]) / name).read_bytes() for name in SAME] for song in songs]


class Machines:
    """The machines of a cluster, besides a head that computes nothing."""

    def __init__(self, count: int, seed: int) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(count)]
        self.killed, self._chance = 0, random.Random(seed)

    def replace_one(self) -> None:
        """Kill a machine at random and add another."""
        node = self.nodes.pop(self._chance.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.killed += 1
        self.nodes.append(self.cluster.add_node(num_cpus=1))

    def pause(self) -> float:
        """Seconds until the next kill."""
        return self._chance.uniform(4, 12)


def drill(folder: Path, options: argparse.Namespace) -> None:
    """Generate the songs alone and by the cluster, and compare them."""
    begun = time.monotonic()
    alone = finished(start("--queue", str(queue(folder / "alone", options.songs, SHORT, 1.0))))
    alone_seconds = time.monotonic() - begun
    machines = Machines(options.machines, options.seed)
    file = queue(folder / "together", options.songs, SHORT, 1.0)
    command = ("--queue", str(file), "--cluster", machines.cluster.address)
    begun, kills = time.monotonic(), 0
    driver = start(*command)
    next_driver = time.monotonic() + 25
    while driver.poll() is None:
        time.sleep(machines.pause())
        machines.replace_one()
        if kills < options.driver_kills and time.monotonic() > next_driver and driver.poll() is None:
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
            kills += 1
            driver, next_driver = start(*command), time.monotonic() + 25
    songs = finished(driver)
    seconds = time.monotonic() - begun
    folders = [path for path in (folder / "together" / "songs").iterdir() if path.name != ".cluster"]
    same = sum(a == b for a, b in zip(contents(alone), contents(songs), strict=True))
    print(f"{options.songs} songs, {options.machines} machines of one core, exit code {driver.returncode}")
    print(f"{machines.killed} machines killed and added, driver killed {kills} times")
    print(f"{same} songs are equal to themselves alone; {len(folders)} folders of songs")
    print(f"{alone_seconds:.0f} s one after the other, {seconds:.0f} s on the cluster")
    machines.cluster.shutdown()


def spread(folder: Path, sections: int) -> None:
    """Refine one song by one machine, and spread over two."""
    lyrics = "\n\n".join(f"[{('verse', 'chorus')[number % 2]}] la la la la" for number in range(sections))
    seconds: list[float] = []
    length = 0.0
    codes: list[bytes] = []
    for count, words in ((1, ()), (2, ("--spread",))):
        machines = Machines(count, 1)
        file = queue(folder / f"spread{count}", 1, lyrics, 15.0)
        (song,) = finished(start("--queue", str(file), "--cluster", machines.cluster.address, *words))
        facts = json.loads((Path(song["folder"]) / "song.json").read_text("utf-8"))
        seconds.append(facts["seconds"]["refine"])
        length = sum(section["seconds"] for section in facts["sections"])
        codes.append((Path(song["folder"]) / "stage2.npz").read_bytes())
        machines.cluster.shutdown()
    print(f"refinement of {length:.0f} s: {seconds[0]:.1f} s on one machine, {seconds[1]:.1f} s on two")
    print(f"the codes are {'equal' if codes[0] == codes[1] else 'different'}")


def main() -> None:
    """Run the drill and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--songs", type=int, default=30)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--driver-kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sections", type=int, default=12, help="sections of the song that is spread")
    parser.add_argument("--only", choices=["drill", "spread"], help="one part")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as name:
        if options.only != "spread":
            drill(Path(name), options)
        if options.only != "drill":
            spread(Path(name), options.sections)


if __name__ == "__main__":
    main()
