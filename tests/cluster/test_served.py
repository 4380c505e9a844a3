"""Songs of a server that its worker gives to a cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import OPTIONS, FakeCluster, failing, machine, new_songs

from yuegguf.cluster import served
from yuegguf.cluster.driver_options import DriverOptions
from yuegguf.cluster.served import ServedCluster
from yuegguf.errors import RequestError
from yuegguf.server.worker import Worker, WorkerFacts
from yuegguf.song.folder import SongFolder
from yuegguf.song.state import where


@contextmanager
def worker(songs: Path, cluster: FakeCluster) -> Iterator[Connection]:
    """The server's end of a worker whose songs go to a cluster."""
    here, there = Pipe()
    place = ServedCluster("auto", DriverOptions(), songs, lambda: cluster)
    thread = threading.Thread(target=Worker(there, WorkerFacts(OPTIONS, 32), lambda: None, place).run)
    thread.start()
    try:
        yield here
    finally:
        here.send_bytes(b'{"do": "stop"}')
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "connected", lambda address: nullcontext())


def send(link: Connection, **message: object) -> None:
    link.send_bytes(json.dumps(message).encode())


def ended(link: Connection, song: str) -> dict[str, Any]:
    """The message of a song's end."""
    while link.poll(60):
        message: dict[str, Any] = json.loads(link.recv_bytes())
        if message["event"] == "ended" and message["song"] == song:
            return message
    raise AssertionError("it has not ended")


def test_songs_of_a_server_are_computed_by_the_cluster_and_their_ends_reported(tmp_path: Path) -> None:
    good, bad = (song.path for song in new_songs(tmp_path, 2))
    cluster = FakeCluster(
        [machine("a")],
        lambda unit, node: failing(unit, node) if unit.songs[0].folder == str(bad) else None,
    )
    with worker(tmp_path, cluster) as link:
        for song in (good, bad):
            send(link, do="song", song=song.name, folder=str(song), refine=False)
        assert ended(link, bad.name)["error"]["message"] == "llama.cpp refused it on a"
        assert ended(link, good.name)["outcome"] == "succeeded"
        send(link, do="song", song="again", folder=str(good), refine=False)  # after the driver's end
        assert ended(link, "again")["outcome"] == "succeeded"
    assert where(SongFolder.open(good)) == "done"


def test_a_song_that_waits_for_a_machine_can_be_cancelled(tmp_path: Path) -> None:
    (song,) = (song.path for song in new_songs(tmp_path, 1))
    with worker(tmp_path, FakeCluster([])) as link:
        send(link, do="song", song=song.name, folder=str(song), refine=False)
        send(link, do="cancel", song=song.name)
        assert ended(link, song.name)["outcome"] == "interrupted"


def test_a_cluster_that_does_not_answer_fails_the_song_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(address: str) -> Callable[[], None]:
        raise RequestError(f"no Ray cluster answers at {address!r}", "start one")

    monkeypatch.setattr(served, "connected", connected)
    (song,) = (song.path for song in new_songs(tmp_path, 1))
    with worker(tmp_path, FakeCluster([])) as link:
        send(link, do="song", song=song.name, folder=str(song), refine=False)
        message = ended(link, song.name)
    assert (message["outcome"], message["error"]["message"]) == ("failed", "no Ray cluster answers at 'auto'")
