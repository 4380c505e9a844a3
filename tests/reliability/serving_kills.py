"""SIGKILLs of a server and its worker at random moments, full disks, and queues that are deleted or damaged.

    PYTHONPATH=tests/support:. python tests/reliability/serving_kills.py --kills 100 --seed 1
    PYTHONPATH=tests/support:. python tests/reliability/serving_kills.py --kills 20 --seed 2 --engine nano

Between the kills songs are requested. A request whose answer the kill cut off is sent again under its key. In
the end every accepted song must be there once, with the bytes that `run` makes of it alone, nothing else may
be left in the folder, and no server may have ended with a traceback. The folder is on a small disk in memory
where this user may mount one; without it, full disks are left out, which is said.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from promises import Broken, require
from scarcity import disk, remount
from serving_client import Client
from serving_load import states
from serving_program import CHEAP, PROC, REAL, begin, worker_of
from serving_songs import Wanted, leftovers, wanted_songs

ANSWER_SECONDS = 60.0
LOOK_SECONDS = 0.1
MOST_WAITING = 6
"""Songs in the queue above which no more are requested."""
ROOM = "size=256m"
ORPHAN_SECONDS = 20.0
"""Most seconds that a worker may outlive its server."""
CUT_OFF = (OSError, http.client.HTTPException)
"""Errors of a request whose server was killed."""


@dataclass
class Drill:
    """A folder of songs whose server is killed again and again."""

    songs: Path
    said: Path
    """File that the servers' messages go to."""
    wanted: list[Wanted]
    module: str
    options: tuple[object, ...]
    chance: random.Random
    disk: bool
    """Whether the folder is a disk of its own, which can be made smaller."""
    happened: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, Wanted] = field(default_factory=dict)
    """Songs by id."""
    unsure: dict[str, Wanted] = field(default_factory=dict)
    """Requests without an answer, by their keys."""
    broken: list[str] = field(default_factory=list)
    requests: int = 0
    process: subprocess.Popen[str] | None = None
    client: Client | None = None

    def started(self) -> Client:
        """A client of a running server."""
        if self.client is None:
            with self.said.open("a") as said:
                self.process, self.client = begin(
                    self.songs, *self.options, module=self.module, wait=ANSWER_SECONDS, errors=said
                )
            for key, wanted in list(self.unsure.items()):
                self.request(wanted, key)
        return self.client

    @property
    def server(self) -> int:
        """Process id of the running server."""
        assert self.process is not None
        return self.process.pid

    def request(self, wanted: Wanted | None = None, key: str = "") -> None:
        """Request a song; one that was requested before must be the same. Raises Broken."""
        client = self.started()
        if wanted is None:
            wanted, key = self.chance.choice(self.wanted), f"key {self.requests}"
            self.requests += 1
        self.unsure[key] = wanted
        try:
            answer = wanted.ask(client, key)
        except CUT_OFF:
            self.happened["requests cut off"] += 1
            return
        if answer.status == 202:
            self.accepted[str(answer.json["id"])] = wanted
        elif answer.status == 507 and self.disk:
            self.happened["refused for want of disk"] += 1
            require("disk" in answer.json["error"]["message"], f"no sentence: {answer.body!r}")
        else:
            raise Broken(f"{key} was answered with {answer.status} {answer.body[:300]!r}")
        del self.unsure[key]

    def pause(self) -> None:
        """Let the server work for a moment."""
        time.sleep(self.chance.choice((0.0, 0.05, 0.3, 1.0, 2.0)) * self.chance.random())

    def kill_server(self) -> None:
        """Kill the server, in the middle of a request now and then; its worker must end by itself."""
        self.started()
        thread = None
        if self.chance.random() < 0.5:
            thread = threading.Thread(target=self.request)
            thread.start()
            time.sleep(self.chance.random() * 0.2)
        process, worker = self.process, worker_of(self.server)
        assert process is not None
        process.kill()
        process.communicate()
        self.process = self.client = None
        if thread is not None:
            thread.join(ANSWER_SECONDS)
        if worker is not None:
            end = time.monotonic() + ORPHAN_SECONDS
            while alive(worker) and time.monotonic() < end:
                time.sleep(LOOK_SECONDS)
            require(not alive(worker), "the worker outlived its server")
        self.happened["server killed"] += 1

    def kill_worker(self) -> None:
        """Kill the worker, if there is one."""
        self.started()
        worker = worker_of(self.server)
        if worker is None:
            self.happened["no worker to kill"] += 1
            return
        os.kill(worker, signal.SIGKILL)
        self.happened["worker killed"] += 1

    def delete_queue(self) -> None:
        """Kill the server and delete the queue; songs that nobody was told of may be there."""
        self.kill_server()
        self.forget_queue()
        self.happened["queue deleted"] += 1

    def damage_queue(self) -> None:
        """Kill the server and damage the queue: the next server must say so, and serve once it is gone."""
        self.kill_server()
        for file in self.songs.glob("queue.sqlite-*"):
            file.unlink()
        queue = self.songs / "queue.sqlite"
        size = queue.stat().st_size if queue.is_file() else 0
        if self.chance.random() < 0.5:
            queue.write_bytes(self.chance.randbytes(max(size, 4096)))
        elif size:
            with queue.open("r+b") as file:
                file.truncate(self.chance.randrange(1, size))
        try:
            client = self.started()
            require(client("GET", "/v1/songs").status < 500, "songs of a damaged queue are not listed")
            self.happened["queue damaged, still read"] += 1
        except subprocess.CalledProcessError as error:
            said = self.said.read_text()[-2000:]
            require("queue.sqlite is damaged" in said, f"no sentence ({error.returncode}): {said}")
            self.forget_queue()
            self.happened["queue damaged, refused"] += 1

    def forget_queue(self) -> None:
        """Remove the queue; what was not answered may have been accepted, or not."""
        for file in self.songs.glob("queue.sqlite*"):
            file.unlink()
        self.started()
        for song in states(self.started()).keys() - self.accepted.keys():
            genre = self.started()("GET", f"/v1/songs/{song}").json["input"]["genre"]
            self.accepted[song] = next(each for each in self.wanted if each.body["genre"] == genre)

    def second_server(self) -> None:
        """A second server of the folder must be refused in one sentence."""
        self.started()
        try:
            second, _ = begin(self.songs, module=self.module)
        except subprocess.CalledProcessError as error:
            require(
                error.returncode == 1 and "is served by another" in error.stderr, f"refused: {error.stderr}"
            )
        else:
            second.kill()
            second.communicate()
            raise Broken("a second server served the folder")
        self.happened["second server refused"] += 1

    def fill_disk(self) -> None:
        """Leave next to no room for a while."""
        if not self.disk:
            self.happened["full disk left out"] += 1
            return
        used = os.statvfs(self.songs)
        kilobytes = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024
        remount(self.songs, f"size={kilobytes + self.chance.choice((4, 16, 64, 256, 1024))}k")
        try:
            self.request()
            self.pause()
            self.request()
            states(self.started())
        finally:
            remount(self.songs, ROOM)
        self.happened["disk filled"] += 1

    def turn(self, kill: Callable[[], None]) -> None:
        """Some songs, a kill, and now and then something else."""
        client = self.started()
        if sum(status in ("queued", "processing") for status in states(client).values()) < MOST_WAITING:
            self.request()
        self.pause()
        kill()
        if self.chance.random() < 0.2:
            others = (self.delete_queue, self.damage_queue, self.second_server, self.fill_disk)
            self.chance.choice(others)()

    def finish(self, seconds: float) -> None:
        """Let every song go on until it has ended, and compare all."""
        client, end = self.started(), time.monotonic() + seconds
        while (now := states(client)) and {*now.values()} != {"succeeded"} and time.monotonic() < end:
            for song, status in now.items():
                if status in ("failed", "interrupted", "canceled"):
                    self.happened[f"resumed, {status}"] += 1
                    client("POST", f"/v1/songs/{song}/resume")
            time.sleep(LOOK_SECONDS)
        for song in now.keys() ^ self.accepted.keys():
            self.broken.append(f"{song} is {'lost' if song in self.accepted else 'there twice'}")
        for song in now.keys() & self.accepted.keys():
            try:
                require(now[song] == "succeeded", f"{song}: {client.song(song)}")
                self.accepted[song].check(self.songs / song)
                self.happened["songs the same as alone"] += 1
            except (Broken, OSError) as error:
                self.broken.append(f"{type(error).__name__} {error}")

    def end(self) -> None:
        """Stop the server, and look at what it leaves."""
        assert self.process is not None
        self.process.terminate()
        self.process.communicate(timeout=ANSWER_SECONDS)
        code = self.process.returncode
        if code or "Traceback" in self.said.read_text():
            self.broken.append(f"the server ended with {code}: {self.said.read_text()[-3000:]}")
        if left := leftovers(self.songs, self.accepted):
            self.broken.append(f"left over: {left}")


def alive(process: int) -> bool:
    """Whether a process runs."""
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kills(drill: Drill, count: int, seconds: float, drain: float) -> None:
    """So many kills, or as many as the time allows, and the end."""
    end = time.monotonic() + seconds
    while (
        drill.happened["server killed"] + drill.happened["worker killed"] < count and time.monotonic() < end
    ):
        kill = drill.chance.choice((drill.kill_server, drill.kill_worker))
        try:
            drill.turn(kill)
        except (Broken, *CUT_OFF) as error:
            drill.broken.append(f"{type(error).__name__} {error}")
            print(drill.broken[-1], file=sys.stderr)
    drill.finish(drain)
    drill.end()


def main() -> int:
    """Run from the command line; exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3600, help="after which no more are killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("cheap", "nano"), default="cheap")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--drain", type=float, default=600, help="seconds for the songs that are left")
    asked = parser.parse_args()
    module = CHEAP if asked.engine == "cheap" else REAL
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        place = Path(root)
        wanted = wanted_songs(place / "wanted", module, 6, 8)
        mounted = True
        try:
            stack.enter_context(disk(place / "songs", ROOM))
        except PermissionError:
            mounted = False
        options = ("--parallel", asked.parallel, "--max-queue", 1000)
        drill = Drill(
            place / "songs",
            place / "said",
            wanted,
            module,
            options,
            random.Random(asked.seed),
            mounted,
        )
        kills(drill, asked.kills, asked.seconds, asked.drain)
    for name, count in sorted(drill.happened.items()):
        print(f"{name:<32}{count:>6}")
    print(f"{len(drill.accepted)} songs, {len(drill.broken)} promises broken", *drill.broken, sep="\n")
    return 1 if drill.broken else 0


if __name__ == "__main__":
    sys.exit(main())
