"""`Prefer: wait`: an answer that is held back until a song has ended."""

from __future__ import annotations

import asyncio
import re
import time

from fastapi.concurrency import run_in_threadpool

from yuegguf.server.jobs import ACTIVE
from yuegguf.server.service import Service

MOST_WAIT = 60
"""Most seconds of a wait; also that of `wait` without a number."""
POLL_SECONDS = 0.25
PREFERENCE = re.compile(r"\s*wait\s*(?:=\s*(\d{1,6})\s*)?", re.IGNORECASE)


def preferred_seconds(prefer: str | None) -> float:
    """Seconds that a Prefer header asks to wait; 0 = not at all."""
    for part in (prefer or "").split(","):
        if match := PREFERENCE.fullmatch(part):
            return min(int(match[1] or MOST_WAIT), MOST_WAIT)
    return 0


async def wait_for_end(service: Service, song: str, prefer: str | None) -> bool:
    """Wait for the end of a song as long as the client prefers; whether it prefers to wait at all.

    The answer is there before the client's own time is over, and before the server has stopped.
    """
    seconds = preferred_seconds(prefer)
    end = time.monotonic() + seconds - POLL_SECONDS
    while time.monotonic() < end and not service.hub.closed:
        job = await run_in_threadpool(service.store.get, song)
        if job is None or job.state not in ACTIVE:
            break
        await asyncio.sleep(POLL_SECONDS)
    return seconds > 0
