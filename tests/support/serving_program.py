"""`yuegguf serve` in a process of its own, and its worker process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from helpers import PROGRAMS
from serving_client import WAIT, Client

SERVE = ("serve", "--port", 0, "--threads", 1, "--model", "nano", "--json")
PROC = Path("/proc")
CHEAP, REAL = "cheap_serve", "yuegguf"
"""Modules of the program with engines of exact arithmetic, and of the one with the bundled models."""


def environment() -> dict[str, str]:
    """Environment of a program that finds the tests' modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((*PROGRAMS, os.environ.get("PYTHONPATH", "")))}


def begin(
    songs: Path,
    *args: object,
    module: str = CHEAP,
    wait: float = WAIT,
    errors: int | IO[str] = subprocess.PIPE,
) -> tuple[subprocess.Popen[str], Client]:
    """A server that answers, and a client that waits so many seconds for an answer.

    Raises subprocess.CalledProcessError, with its message, where it ends instead.
    """
    command = [sys.executable, "-m", module, *map(str, SERVE), "--songs", str(songs), *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment())
    assert process.stdout is not None
    line = process.stdout.readline()
    if "url" not in line:
        _, said = process.communicate()
        raise subprocess.CalledProcessError(process.returncode, command, line, said)
    port = int(json.loads(line)["url"].rsplit(":", 1)[1].strip("/"))
    return process, Client(port, songs, {}, wait)


@contextmanager
def program(
    songs: Path, *args: object, module: str = CHEAP, wait: float = WAIT
) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A server that answers; it is killed at the end if it is still there."""
    process, client = begin(songs, *args, module=module, wait=wait)
    try:
        yield process, client
    finally:
        process.kill()
        process.communicate()


def worker_of(server: int) -> int | None:
    """Process id of a server's worker, if it has one."""
    try:
        children = (PROC / str(server) / "task" / str(server) / "children").read_text().split()
        others = [path.name for path in (PROC / str(server) / "task").iterdir()]
        for thread in others:
            children += (PROC / str(server) / "task" / thread / "children").read_text().split()
    except OSError:
        return None
    for child in dict.fromkeys(children):
        try:
            if b"spawn_main" in (PROC / child / "cmdline").read_bytes():
                return int(child)
        except OSError:
            continue
    return None


def resident(process: int | None) -> int | None:
    """Bytes that a process has in memory, or None without it."""
    try:
        pages = int((PROC / str(process) / "statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
