"""`Prefer: wait`: an answer that comes while the server stops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from yuegguf.server.events import EventHub
from yuegguf.server.jobs import Job, JobStore
from yuegguf.server.service import Service
from yuegguf.server.waiting import wait_for_end


def test_a_wait_ends_once_the_server_stops(tmp_path: Path) -> None:
    store, hub, looks = JobStore(tmp_path / "queue.sqlite"), EventHub(), list[str]()
    store.queue("a")

    def get(song: str) -> Job | None:
        assert not looks, "it is waited for after the stop"
        looks.append(song)
        hub.close()
        return store.get(song)

    service: Any = SimpleNamespace(hub=hub, store=SimpleNamespace(get=get))
    assert asyncio.run(wait_for_end(cast(Service, service), "a", "wait"))
    assert looks == ["a"]
