"""A hub on loopback that speaks as much of the real one's API as huggingface_hub uses, faults included."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 4096
"""Bytes from which a file counts as stored by LFS: it has a SHA-256 and comes from another address."""
PIECE = 8192
"""Bytes sent at once."""
STALL = 3.0
"""Seconds that a stalled answer takes to end."""


@dataclass
class Repo:
    """A published repository at one commit."""

    files: dict[str, bytes]
    commit: str
    licence: str | None = "apache-2.0"


@dataclass
class Fault:
    """Something that goes wrong with requests whose path matches, `times` times."""

    where: str
    """"api", "resolve" or "cdn"."""
    kind: str
    """Kind of the fault: a status as text, a key of `Hub.answers`, or a word.

    truncate, reset, stall, trickle, corrupt, html; longer and short (the body, as announced), overstated
    (1,000 bytes more are announced than come, whatever Range asks for), whole (Range is ignored), other part
    (than was asked for), gzip, loop (of redirects), away (to another scheme), patience (with a Retry-After
    of days).
    """
    times: int = 10**9
    at: float = 0.5
    """Share of the body that is sent before it."""


@dataclass
class Hub:
    """Published files, faults to produce, and the requests received."""

    repos: dict[str, Repo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range of each request."""
    tokens: set[str] = field(default_factory=set)
    """Authorization headers seen, each with the kind of address that saw it."""
    answers: dict[str, bytes] = field(default_factory=dict)
    """Kind of a fault → the whole answer that it makes."""
    sent: int = 0
    """Bytes of files that went out."""
    on_bytes: Callable[[int], None] = lambda sent: None
    """Called whenever some have."""
    url: str = ""
    cdn: str = ""
    """Address of large files: the same server under another host's name."""

    def publish(self, name: str, folder: Path, commit: str, licence: str | None = "apache-2.0") -> None:
        """Offer the files of a folder."""
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.repos[name] = Repo(files, commit, licence)

    def fault(self, where: str) -> Fault | None:
        """The next fault of such requests, used up by one."""
        for one in self.faults:
            if one.where == where and one.times > 0:
                one.times -= 1
                return one
        return None

    def fetched(self) -> list[str]:
        """Paths of the files that were asked for with GET."""
        return [path for method, path, _ in self.asked if method == "GET" and not path.startswith("/api/")]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of loopback; `hub.url` says where."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    hub.cdn = f"http://localhost:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        where = "api" if path.startswith("/api/") else "cdn" if path.startswith("/cdn/") else "resolve"
        if "Authorization" in self.headers:
            self.hub.tokens.add(f"{where} {self.headers['Authorization']}")
        fault = self.hub.fault(where)
        try:
            if fault and fault.kind.isdigit():
                return self.refuse(int(fault.kind))
            if fault and fault.kind in ("loop", "away"):
                target = self.path if fault.kind == "loop" else "gopher://nowhere/"
                return self.send(302, {"Location": target}, b"")
            if fault and fault.kind == "patience":
                return self.send(429, {"Retry-After": "999999"}, b"")
            if fault and fault.kind in self.hub.answers:
                return self.send(200, {"Content-Type": "application/json"}, self.hub.answers[fault.kind])
            if fault and fault.kind == "html":
                return self.send(200, {"Content-Type": "text/html"}, b"<html>log in to the wifi</html>")
            if where == "api":
                return self.api(path)
            if where == "cdn":
                return self.file(self.by_hash(path), {}, body, fault)
            return self.resolve(path, body, fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def api(self, path: str) -> None:
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|commits)/(.+))?", path)
        repo = self.hub.repos.get(match[1]) if match else None
        if match is None or repo is None:
            return self.refuse(404, "RepoNotFound")
        if match[2] == "commits":
            commit = {
                "id": repo.commit,
                "title": "t",
                "message": "",
                "authors": [],
                "date": "2025-01-30T00:00:00.000Z",
            }
            return self.send_json([commit])
        if match[2] and match[3] not in (repo.commit, "main"):
            return self.refuse(404, "RevisionNotFound")
        siblings = [self.sibling(name, data) for name, data in repo.files.items()]
        card = {"license": repo.licence} if repo.licence else {}
        return self.send_json({"id": match[1], "sha": repo.commit, "siblings": siblings, "cardData": card})

    def sibling(self, name: str, data: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        found: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
        if len(data) >= LARGE:
            found["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return found

    def resolve(self, path: str, body: bool, fault: Fault | None) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path)
        repo = self.hub.repos.get(match[1]) if match else None
        if match is None or repo is None or match[2] != repo.commit or match[3] not in repo.files:
            return self.refuse(404, "EntryNotFound")
        data = repo.files[match[3]]
        sha = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{sha[:40]}"'}
        if len(data) < LARGE:
            return self.file(data, headers, body, fault)
        headers |= {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data))}
        return self.send(302, {**headers, "Location": f"{self.hub.cdn}/cdn/{sha}"}, b"")

    def by_hash(self, path: str) -> bytes:
        every = (data for repo in self.hub.repos.values() for data in repo.files.values())
        return next(data for data in every if hashlib.sha256(data).hexdigest() == path.rpartition("/")[2])

    def file(self, data: bytes, headers: dict[str, str], body: bool, fault: Fault | None) -> None:
        kind, start, status = fault.kind if fault else "", 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and kind not in ("whole", "overstated"):
            start, status = int(wanted[1]), 206
            if start >= len(data):
                return self.refuse(416)
            start -= kind == "other part"
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if kind == "corrupt":
            data = bytes(byte ^ 0x55 for byte in data)
        if kind == "longer":
            data += b"more"
        if kind == "short":
            data = data[:-1]
        if kind == "gzip":
            headers = {**headers, "Content-Encoding": "gzip"}
        announced = max(0, len(data) - start) + 1000 * (kind == "overstated")
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(announced)}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.stream(data[start:], kind, fault.at if fault else 1.0)

    def stream(self, data: bytes, kind: str, at: float) -> None:
        limit = int(len(data) * at)
        for begin in range(0, len(data), PIECE):
            if kind in ("truncate", "reset", "stall") and begin >= limit:
                return self.stop(kind)
            if kind == "trickle":
                time.sleep(0.02)
            piece = data[begin : begin + PIECE]
            self.wfile.write(piece)
            self.hub.sent += len(piece)
            self.hub.on_bytes(self.hub.sent)
        if kind in ("truncate", "reset", "stall", "overstated"):
            self.stop(kind)

    def stop(self, kind: str) -> None:
        self.wfile.flush()
        self.close_connection = True
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif kind == "stall":
            time.sleep(STALL)

    def refuse(self, status: int, code: str = "") -> None:
        headers = {"X-Error-Code": code} if code else {}
        self.send(status, headers | ({"Retry-After": "0"} if status == 429 else {}), b"")

    def send_json(self, found: Any) -> None:
        self.send(200, {"Content-Type": "application/json"}, json.dumps(found).encode())

    def send(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
