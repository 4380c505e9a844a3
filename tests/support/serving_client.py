"""A server on loopback in this process, and a plain client."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from yuegguf.models.resolve import ModelChoice
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.server import serving
from yuegguf.server.forecasting import forecast_json
from yuegguf.server.settings import Settings
from yuegguf.server.worker import Worker, WorkerFacts
from yuegguf.server.worker_process import NUMBERS, Deliver, StartWorker

BODY = {"genre": "pop", "lyrics": "[verse]\nla la\n[chorus]\nlo lo", "segment_seconds": 1, "seed": 5}
"""A song of two seconds; the arguments of the same song for `run` are in SAME."""
SAME = ("-g", "pop", "--lyrics", BODY["lyrics"], "--preview", 4)
WAIT = 120.0
"""Most seconds that a test waits for something that is to come."""


class ThreadWorker:
    """A worker in a thread of this process."""

    def __init__(self, facts: WorkerFacts, deliver: Deliver) -> None:
        self.number, self.pid = next(NUMBERS), None
        self._link, there = Pipe()
        self._deliver = deliver
        self._threads = [
            threading.Thread(target=Worker(there, facts, gone=lambda: None).run, daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]
        self._there = there
        for thread in self._threads:
            thread.start()

    def send(self, message: dict[str, Any]) -> None:
        self._link.send_bytes(json.dumps(message).encode())

    def stop(self) -> None:
        self.send({"do": "stop"})
        self._threads[0].join(WAIT)
        self._there.close()
        self._threads[1].join(WAIT)
        self._link.close()

    def _read(self) -> None:
        try:
            while True:
                self._deliver({**json.loads(self._link.recv_bytes()), "worker": self.number})
        except (EOFError, OSError):
            self._deliver({"event": "died", "code": 0, "worker": self.number})


class IdleWorker:
    """A worker that takes songs and does nothing with them until it is told to."""

    def __init__(self, facts: WorkerFacts, deliver: Deliver) -> None:
        self.number, self.pid, self._deliver = next(NUMBERS), None, deliver
        self.messages: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message["do"] == "cancel":
            self.say("ended", song=message["song"], outcome="interrupted", error=None)

    def say(self, event: str, **facts: Any) -> None:
        self._deliver({"event": event, **facts, "worker": self.number})

    def stop(self) -> None:
        pass


class Idle:
    """Starts workers that do nothing, and knows all of them."""

    def __init__(self) -> None:
        self.started: list[IdleWorker] = []

    def __call__(self, facts: WorkerFacts, deliver: Deliver) -> IdleWorker:
        self.started.append(IdleWorker(facts, deliver))
        return self.started[-1]


def copied_song(source: Path, target: Path) -> Path:
    """A copy of a song's folder, without its lock."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".lock"))
    return target


def multipart(parts: dict[str, bytes], filename: str, **names: str) -> tuple[bytes, str]:
    """A multipart body and its content type; every part but `request` is a file of this name, or its own."""
    lines = b""
    for name, data in parts.items():
        named = "" if name == "request" else f'; filename="{names.get(name, filename)}"'
        lines += f'--frontier\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        lines += data + b"\r\n"
    return lines + b"--frontier--\r\n", "multipart/form-data; boundary=frontier"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Code of an error, which must have a sentence and say what to do."""
        error = self.json["error"]
        assert error["message"]
        assert error["hint"]
        assert "Traceback" not in error["message"]
        return str(error["code"])


@dataclass(frozen=True)
class Client:
    port: int
    songs: Path
    headers: dict[str, str]
    seconds: float = WAIT
    """Most seconds that an answer, or the next part of one, may take."""

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; a header's name has underscores for dashes."""
        given = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = body
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body).encode()
        if body is not None:
            given.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.seconds)
        try:
            connection.putrequest(method, path, skip_host="host" in given)
            for name, value in given.items():
                connection.putheader(name, value)
            if data is not None:
                connection.putheader("content-length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def create(self, body: dict[str, Any] = BODY, **headers: str) -> str:
        """The id of a new song."""
        answer = self("POST", "/v1/songs", body, **headers)
        assert answer.status == 202, answer.body
        return str(answer.json["id"])

    def song(self, song: str) -> Any:
        answer = self("GET", f"/v1/songs/{song}")
        assert answer.status == 200, answer.body
        return answer.json

    def wait(self, song: str, *statuses: str) -> Any:
        """The song once it has one of these statuses, which its events say."""
        events = self.events(song)
        for _ in events:
            found = self.song(song)
            if found["status"] in statuses:
                events.close()
                return found
        raise AssertionError(f"the events of {song} ended: {self.song(song)}")

    def upload(self, path: str, request: dict[str, Any], files: dict[str, bytes], **headers: str) -> Answer:
        """A multipart request, whose files have their parts' names."""
        body, kind = multipart({"request": json.dumps(request).encode(), **files}, "file")
        return self("POST", path, body, content_type=kind, **headers)

    def task(self, task: str) -> Any:
        answer = self("GET", f"/v1/tasks/{task}")
        assert answer.status == 200, answer.body
        return answer.json

    def ended_task(self, answer: Answer) -> Any:
        """The task that an answer has made, once it has ended."""
        assert answer.status == 202, answer.body
        assert answer.headers["location"] == f"/v1/tasks/{answer.json['id']}"
        events = self.events(answer.json["id"], kind="tasks")
        for _ in events:
            found = self.task(answer.json["id"])
            if found["status"] in ("succeeded", "failed", "canceled"):
                events.close()
                return found
        raise AssertionError(f"the events ended: {self.task(answer.json['id'])}")

    def events(self, song: str, last: str = "", kind: str = "songs") -> Iterator[dict[str, Any]]:
        """Server-sent events of a song or a task: id, event and data."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.seconds)
        headers = {**self.headers, **({"Last-Event-ID": last} if last else {})}
        try:
            connection.request("GET", f"/v1/{kind}/{song}/events", headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, Any] = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if not name and fields:
                    yield {**fields, "data": json.loads(fields["data"])}
                    fields = {}
                elif name and not line.startswith(b":"):
                    fields[name] = value
        finally:
            connection.close()


Serve = Callable[..., Any]


@contextmanager
def served(songs: Path, start: StartWorker = ThreadWorker, **settings: Any) -> Iterator[Client]:
    """A server of a folder in a thread, with `nano`."""
    compute = ComputeOptions(threads=1)
    facts = Settings(songs, ModelChoice(stage1="nano", models_dir=songs / "no models"), compute)
    facts = replace(facts, **settings)
    listening = serving.listening_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    stop, ready, errors = threading.Event(), threading.Event(), []

    def run() -> None:
        try:
            serving.serve(facts, listening, stop, ready.set, start, make_forecast=forecast_json)
        except BaseException as error:
            errors.append(error)
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(WAIT)
    if errors:
        listening.close()
        raise errors[0]
    try:
        yield Client(port, songs, {"authorization": f"Bearer {facts.key}"} if facts.key else {})
    finally:
        stop.set()
        thread.join(WAIT)
        listening.close()
        assert not thread.is_alive()
        assert errors == []
