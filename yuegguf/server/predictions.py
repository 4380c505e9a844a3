"""Predictions of Replicate's API: each is a song, with what its client asked for besides, and a webhook."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from yuegguf.errors import YueError
from yuegguf.server.cog_input import PredictionBody, chosen_models, song_input
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.prediction_store import PredictionRow, PredictionStore
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service
from yuegguf.server.settings import PREDICTIONS_FILE
from yuegguf.server.shelf import Link
from yuegguf.server.song_parsing import parse_song
from yuegguf.server.webhook_address import host_of, parse_webhook
from yuegguf.server.webhooks import Notice, Webhooks

STATUSES = {"queued": "starting", "interrupted": "canceled"}
"""Status of a song → that of its prediction, where they differ."""
ENDED = ("succeeded", "failed", "canceled")
LOGS_SECONDS = 5.0
"""Least seconds between two notices of a song's progress."""
BAR = 20
"""Characters of the progress bar in the logs, whose form clients read."""
DEFAULT_MODEL = "yuegguf/yue"


class Predictions:
    """The predictions of a service."""

    def __init__(self, service: Service, link: Link) -> None:
        """Open their file; webhooks that an earlier server did not deliver are sent. Raises YueError."""
        self.service, self._link = service, link
        self._store = PredictionStore(service.settings.songs / PREDICTIONS_FILE)
        self._rows = {row.song: row for row in self._store.with_webhooks()}
        """Predictions whose webhook is still to be notified."""
        self._sent: dict[str, set[str]] = {}
        """Events of a song that a webhook was sent once and for all."""
        self._next_logs: dict[str, float] = {}
        self._lock = threading.RLock()
        """Held while these are changed: events come from several threads."""
        self._webhooks = Webhooks(service.settings.webhook_hosts, self._notified)
        service.hub.watch(self._watch)
        for song in list(self._rows):
            self._look(song)

    def stop(self) -> None:
        """Send no more notices, and close the file."""
        self._webhooks.stop()
        self._store.close()

    def create(self, body: PredictionBody, model: str, root: str, idempotency: Idempotency) -> str:
        """Queue the song of a prediction; its id. Raises YueError.

        `root` is the URL of this server as the client wrote it. A request that was made before, by its key,
        gives the same song.
        """
        if (known := self.service.known(idempotency)) is not None:
            return known
        url, events = body.notified
        if url:
            parse_webhook(url, self.service.settings.webhook_hosts)
        choice, notices = chosen_models(body.input, self.service.settings.choice)
        parsed = parse_song(song_input(body.input), choice, {})
        given = msgspec.json.encode(body.input).decode()
        added: list[str] = []

        def add(song: str) -> None:  # before the song is queued, so that no event is missed
            row = PredictionRow(song, model, body.version, given, root, url, ",".join(events))
            self._store.add(row)
            added.append(song)
            if url:
                with self._lock:
                    self._rows[song] = row
            for notice in notices:
                self.service.store.warn(song, notice)

        try:
            return self.service.create(parsed, idempotency, noted=add)
        except BaseException:
            for each in added:
                self._forget(each)
            raise

    def get(self, song: str) -> dict[str, Any]:
        """The JSON object of a prediction. Raises HttpProblem 404."""
        row = self._store.get(song)
        if row is None:
            raise HttpProblem(404, "no_such_prediction", "there is no such prediction", "create one first")
        return prediction_json(row, self.service.song(song, self._link))

    def cancel(self, song: str) -> dict[str, Any]:
        """Stop a prediction within a token; what its song has is kept. Raises HttpProblem 404."""
        self.get(song)
        self.service.cancel(song)
        return self.get(song)

    # Webhooks

    def _look(self, song: str) -> None:
        """Send what a song has come to while no server ran; forget a prediction whose song was never made."""
        with suppress(YueError):
            try:
                self.service.shelf.path(song)
            except HttpProblem:
                self._forget(song)
                return
            job = self.service.store.get(song)
            if job is not None and job.state in ENDED:
                self._watch(song, "done", {"status": job.state})
            elif job is not None and job.state == "processing":
                self._watch(song, "status", {"status": "processing"})

    def _watch(self, song: str, kind: str, data: dict[str, Any]) -> None:
        """Notify a webhook of an event of its song."""
        with self._lock:
            self._notify(song, kind, data)

    def _notify(self, song: str, kind: str, data: dict[str, Any]) -> None:
        if kind == "done" and data["status"] == "deleted":
            self._forget(song)
            return
        row = self._rows.get(song)
        if row is None:
            return
        events, sent = row.events.split(","), self._sent.setdefault(song, set())
        if kind == "done" and "done" not in sent:
            sent.add("done")
            has_output = data["status"] == "succeeded" and "output" in events
            if has_output or "completed" in events:
                self._send(row, last=True)
            else:
                self._end(song)
        elif kind == "status" and data["status"] == "processing" and "start" in {*events} - sent:
            sent.add("start")
            self._send(row)
        elif kind in ("progress", "warning") and "logs" in events:
            now = time.monotonic()
            if now >= self._next_logs.get(song, 0.0):
                self._next_logs[song] = now + LOGS_SECONDS
                self._send(row)

    def _send(self, row: PredictionRow, last: bool = False) -> None:
        self._webhooks.send(Notice(row.song, row.webhook, last), partial(self._body, row.song))

    def _body(self, song: str) -> dict[str, Any] | None:
        try:
            return self.get(song)
        except HttpProblem:  # deleted
            return None

    def _notified(self, notice: Notice, reason: str) -> None:
        try:
            if reason:
                warning = f"the webhook to {host_of(notice.url)} was not delivered: {reason}"
                self.service.store.warn(notice.song, warning)
        finally:
            if notice.last:
                self._end(notice.song)

    def _end(self, song: str) -> None:
        with self._lock:
            self._rows.pop(song, None)
            self._sent.pop(song, None)
            self._next_logs.pop(song, None)
        with suppress(YueError):
            self._store.end_webhook(song)

    def _forget(self, song: str) -> None:
        self._end(song)
        with suppress(YueError):
            self._store.delete(song)


def prediction_json(row: PredictionRow, song: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a prediction, of its row and its song."""
    status = STATUSES.get(song["status"], song["status"])
    where, error = f"{row.root}/v1/predictions/{quote(row.song)}", song["error"]
    files = [file for file in song["files"] if file["name"] != "preview.wav"]
    times = [job_time for job_time in (song["started_at"], song["completed_at"]) if job_time]
    return {
        "id": row.song,
        "model": row.model,
        "version": row.version,
        "status": status,
        "input": json.loads(row.input),
        "output": [f"{row.root}/{file['url']}" for file in files] if status == "succeeded" else None,
        "logs": _logs(song),
        "error": None if error is None else "; ".join(filter(None, (error["message"], error.get("hint")))),
        "metrics": {"predict_time": _seconds_between(*times)} if len(times) == 2 else {},
        "created_at": song["created_at"],
        "started_at": song["started_at"],
        "completed_at": song["completed_at"],
        "urls": {"get": where, "cancel": f"{where}/cancel"},
    }


def _logs(song: dict[str, Any]) -> str:
    """Warnings, and the progress as a bar."""
    lines = list(song["warnings"])
    if (progress := song["progress"]) is not None:
        percent = round(100 * progress["done"])
        bar = "█" * (percent * BAR // 100)
        lines.append(f"{percent}%|{bar:<{BAR}}| {percent}/100 {progress['note']}")
    return "\n".join(lines)


def _seconds_between(start: str, end: str) -> float:
    first, last = (datetime.fromisoformat(text) for text in (start, end))
    return round((last - first).total_seconds(), 3)
