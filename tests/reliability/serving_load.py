"""Clients of one server, all at once: they create, listen, cancel and delete songs for a bounded time.

    PYTHONPATH=tests/support:. python tests/reliability/serving_load.py --seconds 300 --engine nano
    PYTHONPATH=tests/support:. python tests/reliability/serving_load.py --seconds 300 --parallel 4

No answer may be a 5xx, no connection may break, no song may be lost or mixed with another one: a finished
song has the bytes that `run` makes of the same request alone. Loopback, and a temporary folder. With
`--engine nano` the bundled models generate; their last bits depend on the neighbours of a step, so they need
`--parallel 1`.
"""

from __future__ import annotations

import argparse
import http.client
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from promises import Broken, require
from serving_client import Answer, Client
from serving_program import CHEAP, REAL, begin, resident, worker_of
from serving_songs import Wanted, leftovers, wanted_songs

SAMPLE_SECONDS = 1.0
ANSWER_SECONDS = 60.0
RETRY_SECONDS = 0.5
MOST_PAUSE = 0.5
"""Most seconds that a client waits between two visits."""
MEBIBYTE = 1 << 20


@dataclass
class Load:
    """All clients of a server, and what became of their requests."""

    client: Client
    wanted: list[Wanted]
    seconds: float
    most_visits: int = 1_000_000
    """Times that a client comes at most."""
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    songs: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    kept: dict[str, Wanted] = field(default_factory=dict)
    """Songs that nobody deleted."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    end: float = 0.0

    def __post_init__(self) -> None:
        self.end = time.monotonic() + self.seconds

    @property
    def over(self) -> bool:
        """Whether clients are to go home."""
        return time.monotonic() > self.end

    def count(self, kind: str, answer: Answer) -> Answer:
        """Count an answer. Raises Broken for a 5xx."""
        with self.lock:
            self.answers[kind, answer.status] += 1
        require(answer.status < 500, f"{kind}: {answer.status} {answer.body[:300]!r}")
        return answer

    def note(self, outcome: str) -> None:
        """Count what became of a song."""
        with self.lock:
            self.songs[outcome] += 1


class Visitor:
    """A client."""

    def __init__(self, load: Load, number: int, seed: int) -> None:
        self.load, self.client, self.number = load, load.client, number
        self.chance, self.visits = random.Random(1000 * seed + number), 0

    def run(self) -> None:
        """Come again and again until the time is over."""
        while not self.load.over and self.visits < self.load.most_visits:
            try:
                self.visit()
            except (
                Broken,
                AssertionError,
                OSError,
                http.client.HTTPException,
                ValueError,
                KeyError,
            ) as error:
                with self.load.lock:
                    self.load.broken.append(f"client {self.number}: {type(error).__name__} {error}")
            time.sleep(self.chance.uniform(0, MOST_PAUSE))

    def ask(self, method: str, path: str, kind: str = "", **rest: Any) -> Answer:
        """A request, counted by its kind."""
        return self.load.count(kind or f"{method} {path}", self.client(method, path, **rest))

    def visit(self) -> None:
        """A song, from its request on to its end, or what else one does with it."""
        self.look_around()
        wanted = self.chance.choice(self.load.wanted)
        self.visits += 1
        song = self.create(wanted)
        if song is None:
            return
        with self.load.lock:
            self.load.kept[song] = wanted
        self.load.note("created")
        way = self.chance.random()
        if way < 0.3:
            status = self.cancelled(song)
        elif way < 0.4:
            status = "left"
        else:
            status = self.followed(song)
        if status == "succeeded":
            self.load.note("finished in the client's time")
            self.listen(song, wanted)
        if status != "left" and self.chance.random() < 0.5:
            self.delete(song)

    def look_around(self) -> None:
        """Other requests."""
        self.ask("GET", "/")
        self.ask("GET", "/v1/props")
        listed = self.ask("GET", "/v1/songs?status=succeeded&limit=9", "GET /v1/songs").json["data"]
        require(self.ask("GET", "/health").json["status"] == "ok", "not healthy")
        if listed:
            other = self.chance.choice(listed)["id"]  # someone else may be deleting it
            answer = self.ask("GET", f"/v1/songs/{other}/audio/mix.wav", "GET audio of others")
            require(answer.status in (200, 404), f"audio of others: {answer.status}")
        missing = self.ask("GET", "/v1/songs/no-such-song", "GET no song")
        require(missing.status == 404, "a song that is not there")

    def create(self, wanted: Wanted) -> str | None:
        """The id of a new song, asked for twice now and then; None when the time is over first."""
        key = f"{self.number}-{self.visits}"
        while not self.load.over:
            answer = self.load.count("POST /v1/songs", wanted.ask(self.client, key))
            if answer.status == 429:
                time.sleep(RETRY_SECONDS)
                continue
            require(answer.status == 202, f"not accepted: {answer.status} {answer.body[:300]!r}")
            song = str(answer.json["id"])
            if self.chance.random() < 0.2:
                again = self.load.count("POST /v1/songs again", wanted.ask(self.client, key))
                require(again.json["id"] == song, f"{key} became two songs")
            return song
        return None

    def cancelled(self, song: str) -> str:
        """Cancel at some moment, and go on now and then; the status in the end."""
        time.sleep(self.chance.uniform(0, 2))
        require(self.ask("POST", f"/v1/songs/{song}/cancel", "POST cancel").status == 200, "cancel")
        status = self.followed(song)
        if status == "canceled" and self.chance.random() < 0.4:
            again = self.ask("POST", f"/v1/songs/{song}/resume", "POST resume")
            require(again.status in (202, 429), f"resume: {again.status} {again.body[:300]!r}")
            return self.followed(song) if again.status == 202 else status
        return status

    def followed(self, song: str) -> str:
        """Follow a song's events, with connections that end and go on; its status in the end."""
        last, numbers = "", [0]
        while True:
            stay, events = self.chance.randint(1, 20), self.client.events(song, last)
            for heard, event in enumerate(events, 1):
                last, data = event["id"], event["data"]
                number = int(last.partition("-")[2])
                require(number >= numbers[-1], f"events of {song} are out of order: {numbers} {number}")
                require(data.get("id", song) == song, f"{song} got an event of {data.get('id')}")
                numbers.append(number)
                with self.load.lock:
                    self.load.answers["events", 200] += 1
                ended = data["status"] if event["event"] in ("status", "done") else ""
                if ended in ("succeeded", "failed", "canceled", "deleted"):
                    events.close()
                    require(ended != "failed", f"{song} failed: {data}")
                    return str(ended)
                if heard >= stay:
                    break
            events.close()
            if self.load.over:
                return "left"

    def listen(self, song: str, wanted: Wanted) -> None:
        """Read a finished song in ranges and whole, and compare it with the one alone."""
        found = self.ask("GET", f"/v1/songs/{song}", "GET song").json
        require(found["input"]["genre"] == wanted.body["genre"], f"{song} is another")
        path, whole = f"/v1/songs/{song}/audio/mix.wav", wanted.alone["mix.wav"]
        require(self.ask("HEAD", path, "HEAD audio").headers["content-length"] == str(len(whole)), "HEAD")
        heard = b""
        while len(heard) < len(whole):
            until = min(len(whole), len(heard) + self.chance.randint(len(whole) // 8, len(whole))) - 1
            part = self.client("GET", path, range=f"bytes={len(heard)}-{until}")
            require(self.load.count("GET audio, Range", part).status == 206, "a range")
            heard += part.body
        require(heard == whole, f"{song} is not heard as alone")
        beyond = self.client("GET", path, range=f"bytes={len(whole)}-")
        require(self.load.count("GET audio, Range beyond", beyond).status == 416, "a range beyond the end")
        for rest in ("peaks?points=50", "project", "text/markers.txt", "bundle.zip"):
            require(self.ask("GET", f"/v1/songs/{song}/{rest}", f"GET {rest}").status == 200, rest)
        wanted.check(self.client.songs / song)

    def delete(self, song: str) -> None:
        """Delete a song, which nobody finds afterwards."""
        answer = self.ask("DELETE", f"/v1/songs/{song}", "DELETE song")
        require(answer.status == 200, f"delete: {answer.status} {answer.body[:300]!r}")
        with self.load.lock:
            del self.load.kept[song]
        self.load.note("deleted")
        require(self.ask("GET", f"/v1/songs/{song}", "GET deleted song").status == 404, "deleted, and there")


@dataclass
class Memory:
    """Resident bytes of server and worker over time."""

    server: int
    samples: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: {"server": [], "worker": []})
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Take samples until it is ended."""
        begun = time.monotonic()
        while not self.ended.wait(SAMPLE_SECONDS):
            for name, process in (("server", self.server), ("worker", worker_of(self.server))):
                if (size := resident(process)) is not None:
                    self.samples[name].append((time.monotonic() - begun, size))

    def lines(self) -> list[str]:
        """For people: medians of three thirds, the peak, and the slope of the second half."""
        found = []
        for name, samples in self.samples.items():
            if len(samples) < 6:
                continue
            sizes = [size / MEBIBYTE for _, size in samples]
            part = len(sizes) // 3
            thirds = [median(sizes[at : at + part]) for at in (0, part, len(sizes) - part)]
            shown = ", ".join(f"{size:.1f}" for size in thirds)
            found.append(
                f"{name}: thirds {shown} MiB, peak {max(sizes):.1f} MiB, {self.slope(name):+.2f} MiB/min"
            )
        return found

    def slope(self, name: str) -> float:
        """MiB a minute in the second half of the time, by least squares."""
        half = self.samples[name][len(self.samples[name]) // 2 :]
        return float(np.polyfit([at for at, _ in half], [size for _, size in half], 1)[0]) * 60 / MEBIBYTE


def drill(load: Load, clients: int, seed: int, drain: float) -> None:
    """Let the clients come, then wait until the songs that are left have ended, and compare them."""
    threads = [
        threading.Thread(target=Visitor(load, number, seed).run, daemon=True) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(load.seconds + 4 * ANSWER_SECONDS)
        if thread.is_alive():
            load.broken.append("a client got no answer")
    end = time.monotonic() + drain
    while (listed := states(load.client)) and time.monotonic() < end:
        if not {*listed.values()} & {"starting", "queued", "processing"}:
            break
        time.sleep(SAMPLE_SECONDS)
    if lost := load.kept.keys() ^ listed.keys():
        load.broken.append(f"lost, or nobody's: {sorted(lost)}")
    for song, wanted in load.kept.items():
        load.songs[f"{listed.get(song, 'lost')} at the end"] += 1
        try:
            require(listed[song] in ("succeeded", "canceled"), f"{song} is {listed[song]}")
            if listed[song] == "succeeded":
                wanted.check(load.client.songs / song)
        except (Broken, KeyError, OSError) as error:
            load.broken.append(f"{type(error).__name__} {error}")


def states(client: Client) -> dict[str, str]:
    """Id → status of all songs."""
    return {each["id"]: each["status"] for each in client("GET", "/v1/songs?limit=1000").json["data"]}


def main() -> int:
    """Run from the command line; exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("cheap", "nano"), default="cheap")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--max-queue", type=int, default=20)
    parser.add_argument("--drain", type=float, default=240, help="seconds for what waits at the end")
    asked = parser.parse_args()
    module = CHEAP if asked.engine == "cheap" else REAL
    with tempfile.TemporaryDirectory() as root:
        place = Path(root)
        wanted = wanted_songs(place / "wanted", module, 9, 2)
        with (place / "said").open("w") as said:
            options = ("--parallel", asked.parallel, "--max-queue", asked.max_queue)
            process, client = begin(
                place / "songs", *options, module=module, wait=ANSWER_SECONDS, errors=said
            )
            memory = Memory(process.pid)
            watcher = threading.Thread(target=memory.watch, daemon=True)
            watcher.start()
            load = Load(client, wanted, asked.seconds)
            drill(load, asked.clients, asked.seed, asked.drain)
            memory.ended.set()
            watcher.join()
            process.terminate()
            process.communicate(timeout=ANSWER_SECONDS)
            code = process.returncode
        if code or "Traceback" in (place / "said").read_text():
            load.broken.append(f"the server ended with {code}: {(place / 'said').read_text()[-2000:]}")
        if left := leftovers(place / "songs", load.kept):
            load.broken.append(f"left over: {left}")
    report(load, memory)
    return 1 if load.broken else 0


def report(load: Load, memory: Memory) -> None:
    """Print answers by kind and status, songs by outcome, memory, and what was broken."""
    for (kind, status), count in sorted(load.answers.items()):
        print(f"{kind:<28}{status:>5}{count:>8}")
    print(f"{sum(load.answers.values())} answers and events")
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(load.songs.items())))
    print("\n".join(memory.lines()))
    print(f"{len(load.broken)} promises broken", *load.broken[:20], sep="\n")


if __name__ == "__main__":
    sys.exit(main())
