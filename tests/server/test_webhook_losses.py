"""Webhooks whose song, host or disk fails: each ends by itself, and none takes another one with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from serving_client import WAIT, Idle, served
from webhook_receiver import receiver

from yuegguf.errors import DamagedFile, StorageError
from yuegguf.models.resolve import ModelChoice
from yuegguf.server import webhooks
from yuegguf.server.cog_input import PredictionBody
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.jobs import JobStore
from yuegguf.server.prediction_store import PredictionRow, PredictionStore
from yuegguf.server.predictions import Predictions
from yuegguf.server.service import Service
from yuegguf.server.settings import PREDICTIONS_FILE, Settings
from yuegguf.server.song_input import read_body
from yuegguf.server.webhook_address import host_of
from yuegguf.server.webhooks import Notice, Webhooks

INPUT = b'{"input": {"genre_description": "pop", "lyrics": "[verse]\\nla la", "seed": 5}, "webhook": "%s"}'
LOOPBACK = ("127.0.0.1",)


def raising(error: Exception) -> Any:
    def raise_it(*_: Any) -> Any:
        raise error

    return raise_it


@contextmanager
def notes(allowed: tuple[str, ...] = LOOPBACK) -> Iterator[tuple[Webhooks, list[tuple[str, str]], Any]]:
    """Webhooks, the songs whose notices have ended with their reasons, and a wait for so many of them."""
    ended: list[tuple[str, str]] = []
    count = threading.Semaphore(0)

    def note(notice: Notice, reason: str) -> None:
        ended.append((notice.song, reason))
        count.release()
        raise OSError("a full disk")  # which ends no thread

    def wait(number: int) -> None:
        assert all(count.acquire(timeout=WAIT) for _ in range(number))

    hooks = Webhooks(allowed, note)
    try:
        yield hooks, ended, wait
    finally:
        hooks.stop()


def test_a_song_that_cannot_be_read_takes_no_other_notice_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RETRY_SECONDS", (0.0, 0.0))
    answers = iter([OSError(24, "too many open files"), KeyError("x"), None])

    def readable_at_last() -> dict[str, Any]:
        if (error := next(answers)) is not None:
            raise error
        return {"id": "late"}

    with receiver() as hook, notes() as (hooks, ended, wait):
        hooks.send(Notice("never", hook.url, True), raising(OSError()))
        hooks.send(Notice("late", hook.url, True), readable_at_last)
        hooks.send(Notice("one of several", hook.url, False), raising(OSError()))
        hooks.send(Notice("gone", hook.url, True), lambda: None)
        wait(4)
        assert hook.next() == {"id": "late"}
        assert sorted(ended) == [
            ("gone", ""),
            ("late", ""),
            ("never", "the song cannot be read (OSError)"),
            ("one of several", "the song cannot be read (OSError)"),
        ]
        assert hook.bodies.empty()


@contextmanager
def predictions(folder: Path, **settings: Any) -> Iterator[Predictions]:
    """The predictions of a service whose queues are not begun."""
    choice = ModelChoice(stage1="nano", models_dir=folder / "no models")
    service = Service(Settings(folder / "songs", choice, **settings), Idle())
    found = Predictions(service, lambda path: path)
    try:
        yield found
    finally:
        found.stop()
        service.close()


def rows(folder: Path) -> dict[str, str]:
    """Song → the webhook that is still to be notified, of every prediction on the disk."""
    store = PredictionStore(folder / "songs" / PREDICTIONS_FILE)
    found = {row.song: row.webhook for row in store.with_webhooks()}
    store.close()
    return found


def created(found: Predictions, url: str) -> str:
    body = read_body(INPUT % url.encode(), PredictionBody)
    return found.create(body, "yuegguf/yue", "http://here", Idempotency())


def test_a_webhook_that_is_not_allowed_any_more_ends(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/done"
    with predictions(tmp_path, webhook_hosts=LOOPBACK) as found:
        song = created(found, url)
        assert rows(tmp_path) == {song: url}
    ended = threading.Event()
    with predictions(tmp_path) as found:
        end = found._end
        found._end = lambda song: (end(song), ended.set())  # type: ignore[assignment, method-assign]
        found.service.store.change(song, "failed", error={"message": "no"})
        found._look(song)
        assert ended.wait(WAIT)
        row = found.service.store.get(song)
        assert row is not None
        reason = "the webhook's host '127.0.0.1' is not on the internet"
        assert row.warnings.count(f"the webhook to 127.0.0.1 was not delivered: {reason}") == 1
    assert rows(tmp_path) == {}


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.example:8/x", "a.example"),
        ("http://[::1]/", "::1"),
        ("http://[", "its host"),
        ("", "its host"),
    ],
)
def test_a_host_is_named_whatever_the_url(url: str, host: str) -> None:
    assert host_of(url) == host


def test_a_warning_that_cannot_be_written_does_not_keep_a_webhook_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with predictions(tmp_path, webhook_hosts=LOOPBACK) as found:
        song = created(found, "http://127.0.0.1:9/")
        monkeypatch.setattr(JobStore, "warn", raising(StorageError("the disk is full", "delete something")))
        with pytest.raises(StorageError):
            found._notified(Notice(song, "http://127.0.0.1:9/", True), "no answer")
    assert rows(tmp_path) == {}


def test_a_prediction_is_there_before_its_song_is_queued_and_not_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with predictions(tmp_path, webhook_hosts=LOOPBACK) as found:
        take = JobStore.take

        def queue(store: JobStore, song: str, *states: Any) -> bool:
            assert rows(tmp_path) == {song: "http://127.0.0.1:9/"}
            assert song in found._rows
            return take(store, song, *states)

        monkeypatch.setattr(JobStore, "take", queue)
        song = created(found, "http://127.0.0.1:9/")
        monkeypatch.setattr(JobStore, "take", raising(StorageError("the disk is full", "delete something")))
        with pytest.raises(StorageError):
            created(found, "http://127.0.0.1:9/")
        monkeypatch.undo()
        assert list(found._rows) == list(rows(tmp_path)) == [song]
        assert [job.song for job in found.service.store.all()] == [song]
        monkeypatch.setattr(
            PredictionStore, "add", raising(StorageError("the disk is full", "delete something"))
        )
        with pytest.raises(StorageError):
            created(found, "")
        assert [job.song for job in found.service.store.all()] == [song]
        assert len(list((tmp_path / "songs").glob("*/song.json"))) == 1


def test_a_prediction_whose_song_was_never_made_is_forgotten(tmp_path: Path) -> None:
    with served(tmp_path / "songs", Idle()):
        pass
    store = PredictionStore(tmp_path / "songs" / PREDICTIONS_FILE)
    store.add(PredictionRow("never-made", "m", "", "{}", "http://here", "http://127.0.0.1:9/", "completed"))
    store.close()
    with predictions(tmp_path) as found:
        assert found._rows == {}
    assert rows(tmp_path) == {}


class SlowSet(set[str]):
    """A set that two threads look into at the same time, if they can."""

    def __init__(self) -> None:
        super().__init__()
        self.both = threading.Barrier(2)

    def __contains__(self, item: object) -> bool:
        found = super().__contains__(item)
        with suppress(threading.BrokenBarrierError):  # the other one waits for a lock
            self.both.wait(0.2)
        return found


def test_the_last_notice_is_sent_once_whoever_publishes_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, bool]] = []
    with predictions(tmp_path, webhook_hosts=LOOPBACK) as found:
        song = created(found, "http://127.0.0.1:9/")
        monkeypatch.setattr(found, "_send", lambda row, last=False: sent.append((row.song, last)))
        found._sent[song] = SlowSet()
        publish = (song, "done", {"status": "canceled"})
        threads = [threading.Thread(target=found.service.hub.publish, args=publish) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert sent == [(song, True)]


def test_a_damaged_song_is_no_song_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with predictions(tmp_path, webhook_hosts=LOOPBACK) as found:
        song = created(found, "")
        assert found._body("another") is None
        monkeypatch.setattr(Service, "song", raising(DamagedFile("it is damaged", "restore it")))
        with pytest.raises(DamagedFile):
            found._body(song)
