"""Songs that the drills of the server ask for, and each as `run` makes it alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from helpers import song_bytes
from promises import require
from serving_client import Answer, Client, multipart
from serving_program import CHEAP, environment

MODULES = {CHEAP: "cheap", "yuegguf": "yuegguf"}
"""Module of a server → the program with the same engines."""
WORDS = ("la lo", "li la lo", "oh la", "na na na", "hey ho hey")


@dataclass(frozen=True)
class Wanted:
    """A song that clients ask for, and its files."""

    body: dict[str, Any]
    recording: Path | None
    """Uploaded with it."""
    alone: dict[str, bytes]

    def ask(self, client: Client, key: str) -> Answer:
        """Request the song under an idempotency key."""
        if self.recording is None:
            return client("POST", "/v1/songs", self.body, idempotency_key=key)
        parts = {"request": json.dumps(self.body).encode(), "ref": self.recording.read_bytes()}
        data, kind = multipart(parts, "take.wav")
        return client("POST", "/v1/songs", data, content_type=kind, idempotency_key=key)

    def check(self, folder: Path) -> None:
        """Compare a finished song with the one alone. Raises Broken."""
        here = song_bytes(folder)
        different = [name for name, data in self.alone.items() if here[name] != data]
        require(not different, f"{folder.name} differs in {different} from {self.body}")


def wanted_songs(place: Path, module: str, count: int, seconds: int) -> list[Wanted]:
    """So many different songs of one or two sections, of 1 to `seconds` seconds each.

    Every third has a reference.
    """
    recording = place / "recording.wav"
    place.mkdir(parents=True, exist_ok=True)
    soundfile.write(recording, 0.3 * np.sin(np.arange(32000) / 20), 16000)
    wanted = []
    for number in range(count):
        words = WORDS[number % len(WORDS)]
        body = {
            "genre": f"pop {number}",
            "lyrics": f"[verse]\n{words}\n[chorus]\n{words}",
            "sections": "all" if number % 2 else "1",
            "segment_seconds": 1 + number % seconds,
            "seed": number,
        }
        if number % 3 == 2:
            body["ref_end"] = 1
        wanted.append(_alone(place, module, body, recording if number % 3 == 2 else None))
    return wanted


def _alone(place: Path, module: str, body: dict[str, Any], recording: Path | None) -> Wanted:
    line = ["run", "-g", body["genre"], "--lyrics", body["lyrics"], "--sections", body["sections"]]
    line += ["--segment-seconds", body["segment_seconds"], "--seed", body["seed"]]
    line += ["--model", "nano", "--threads", 1, "-o", place / "alone", "--json"]
    if recording is not None:
        line += ["--ref", recording, "--ref-end", body["ref_end"]]
    command = [sys.executable, "-m", MODULES[module], *map(str, line)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment())
    require(ended.returncode in (0, 6), f"run failed: {ended.stderr}")
    folder = Path(json.loads(ended.stdout)["folder"])
    return Wanted(body, recording, song_bytes(folder))


def leftovers(songs: Path, there: Mapping[str, Wanted]) -> list[str]:
    """Names in a folder of songs that are neither songs nor a server's own, and recordings of no song."""
    own = {"queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm", ".server.lock", ".uploads"}
    found = sorted({path.name for path in songs.iterdir()} - there.keys() - own)
    uploads = sorted(songs.glob(".uploads/*"))
    most = sum(wanted.recording is not None for wanted in there.values())
    return found + [str(path.relative_to(songs)) for path in uploads] * (len(uploads) > most)
