"""Surroundings of a command in a process of its own: environment, user, limits, clock."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from yuegguf.models import offline_kit
from yuegguf.pipeline import create

NOBODY = 65534
"""A user who owns nothing."""


def install(
    environment: dict[str, str] | None = None,
    limits: dict[str, int] | None = None,
    user: int | None = None,
    clock: float = 0.0,
    folder: str = "",
    unasked: bool = False,
) -> Callable[[], None]:
    """Change them for the rest of this process: `limits` by RLIMIT_ names, `clock` by seconds.

    `unasked` lets commands begin without asking whether there is room.
    """
    os.environ.update(environment or {})
    if folder:
        os.chdir(folder)
    if clock:
        real = time.time
        time.time = lambda: real() + clock
    if unasked:
        for module in (create, offline_kit):
            module.check_free_disk = lambda *_asked: None
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    before = {name: resource.getrlimit(getattr(resource, name)) for name in limits or {}}
    for name, most in (limits or {}).items():
        wanted = most + in_use() if name == "RLIMIT_AS" else most
        resource.setrlimit(getattr(resource, name), (wanted, before[name][1]))

    def lift() -> None:
        for name, both in before.items():
            resource.setrlimit(getattr(resource, name), both)

    return lift


def in_use() -> int:
    """Bytes of address space that this process has already."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
