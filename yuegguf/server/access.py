"""Checks of requests: the key, tokens of single files, Host, Origin, and limits of bodies."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from yuegguf.errors import DamagedFile
from yuegguf.files.atomic import read_limited, storage_errors
from yuegguf.server.forwarding import HOST, forwarded, is_trusted, rewrite
from yuegguf.server.problems import HttpProblem, error_json
from yuegguf.server.settings import MAX_JSON_BODY, Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN_SECONDS = 3600
"""Seconds that the token of a file is valid."""
BODY_SECONDS = 30.0
"""Most seconds between two parts of a body, and in which it begins to arrive at SLOWEST."""
SLOWEST = 16 << 10
"""Least bytes a second of a body, so that one that trickles ends."""
SAFE_METHODS = ("GET", "HEAD")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"DENY",
    b"content-security-policy": (
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
"""Headers of every answer."""
URL_CHARACTERS = ' ,="/?&;:%+'
"""Characters that a header's value keeps."""
OPEN = ("/health", "/", "/page/")
"""Paths that need no key and to which other sites may link; one that ends in a slash: all below it."""


def stored_key(file: Path) -> str:
    """The key in a file; a new one, readable by its owner alone, where there is none. Raises YueError."""
    if not os.path.lexists(file):
        with storage_errors(file):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as opened:
                opened.write(secrets.token_urlsafe(24) + "\n")
    key = read_limited(file, 4096, "delete it to get a new key").decode("ascii", "replace").strip()
    if not key:
        raise DamagedFile(f"{file} holds no key", "delete it to get a new one")
    return key


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    name = host.removesuffix(".").lower()
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def host_name(header: str) -> str:
    """The host in a Host header, without its port."""
    if header.startswith("["):
        return header.partition("]")[0][1:].lower()
    return header.partition(":")[0].lower()


def same_text(given: str, expected: str) -> bool:
    """Whether two secrets are equal, in a time that does not depend on where they differ."""
    digests = [hashlib.sha256(text.encode(errors="replace")).digest() for text in (given, expected)]
    return hmac.compare_digest(*digests)


def _is_open(path: str) -> bool:
    """Whether a path is one of OPEN."""
    folders = tuple(each for each in OPEN if each != "/" and each.endswith("/"))
    return path in OPEN or path.startswith(folders)


class Access:
    """Checks of a request before the application gets it, and the headers of every answer."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app, self._settings = app, settings

    def link(self, path: str) -> str:
        """A URL for a file, with a token where the server has a key; relative to the server's root."""
        if not self._settings.key:
            return path
        until = str(int(time.time()) + TOKEN_SECONDS)
        return f"{path}?token={until}.{self._signature(f'/{unquote(path)}', until)}"

    def _signature(self, path: str, until: str) -> str:
        message = f"{until} {path}".encode()
        return hmac.new(self._settings.key.encode(), message, hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets
            await send({"type": "websocket.close"})
            return
        send = _with_headers(send)
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            scope["path"] = self._path(scope)
            self._check_host(scope, headers.get("host", ""))
            if is_trusted((scope.get("client") or ("",))[0], self._settings.proxies):
                scheme, host = forwarded(headers)
                if host:
                    self._check_host(scope, host)
                    headers["host"] = host
                rewrite(scope, scheme, host)
            self._check(scope, headers)
            await self._app(scope, self._limited(receive, headers), send)
        except HttpProblem as problem:
            await send_problem(send, problem)

    def _path(self, scope: Scope) -> str:
        path, prefix = str(scope["path"]), self._settings.prefix
        if path == "/health" or not prefix:
            return path
        if path != prefix and not path.startswith(f"{prefix}/"):
            raise HttpProblem(404, "not_found", "there is nothing here", f"the service is below {prefix}/")
        if path == prefix:  # the page's files are named relative to its address
            query = str(scope["query_string"].decode("latin-1"))
            place = f"{prefix}/{'?' * bool(query)}{query}"
            raise HttpProblem(308, "moved", "the page is elsewhere", f"open {prefix}/", {"Location": place})
        return path.removeprefix(prefix)

    def _check_host(self, scope: Scope, host: str) -> None:
        name, own = host_name(host), (scope.get("server") or ("",))[0]
        known = is_loopback(name) or name in self._settings.hosts or name == own
        if not known or not HOST.fullmatch(host):
            raise HttpProblem(
                403, "wrong_host", f"{name!r:.80} is no name of this server", "allow it with --allow-host"
            )

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        host, path, method = headers["host"], scope["path"], scope["method"]
        site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != host.lower()
        if not _is_open(path) and (site in ("cross-site", "same-site") or foreign):
            raise HttpProblem(403, "cross_site", "another site's page asks", "open the server's own page")
        if not self._settings.key or _is_open(path):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same_text(given.strip(), self._settings.key):
            return
        if method in SAFE_METHODS and self._has_token(scope, path):
            return
        raise HttpProblem(
            401,
            "key_needed",
            "the key is missing or wrong",
            "send it as: Authorization: Bearer KEY",
            {"WWW-Authenticate": "Bearer"},
        )

    def _has_token(self, scope: Scope, path: str) -> bool:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        until, _, signature = query.get("token", [""])[0].partition(".")
        if not same_text(signature, self._signature(path, until)):
            return False
        return time.time() <= int(until)  # signed by this server, so it is a number

    def _limited(self, receive: Receive, headers: dict[str, str]) -> Receive:
        """`receive` that refuses a body of more bytes than its type may have, and one that stalls.

        Raises HttpProblem at once where the request announces too much.
        """
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        length, chunked = headers.get("content-length", "0"), "transfer-encoding" in headers
        has_body = chunked or length.strip("0") != ""
        if has_body and kind not in ("application/json", "multipart/form-data"):
            raise HttpProblem(
                415,
                "wrong_type",
                f"a body of type {kind!r:.80} is not taken",
                "send JSON, or multipart/form-data",
            )
        most = self._settings.upload_limit if kind == "multipart/form-data" else MAX_JSON_BODY
        problem = HttpProblem(
            413,
            "too_large",
            f"the body has more than {most:,} bytes",
            "send less; see /v1/props",
            {"Connection": "close"},
        )
        if not length.isdecimal() or len(length) > 18 or int(length) > most:
            raise problem
        received, begun = 0, time.monotonic()

        async def limited() -> Message:
            nonlocal received
            if not has_body or received < 0:
                return await receive()
            left = begun + BODY_SECONDS + received / SLOWEST - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), min(BODY_SECONDS, max(0.0, left)))
            except TimeoutError as error:
                raise HttpProblem(
                    408, "too_slow", "the body arrives too slowly", "send it again", {"Connection": "close"}
                ) from error
            received += len(message.get("body", b""))
            if received > most:
                raise problem
            if not message.get("more_body", False):  # what follows is the client's leaving
                received = -1
            return message

        return limited


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            message = {**message, "headers": given + [h for h in HEADERS.items() if h[0] not in names]}
        await send(message)

    return sending


async def send_problem(send: Send, problem: HttpProblem) -> None:
    """Answer with an error."""
    body = json.dumps({"error": error_json(problem)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [
        (name.lower().encode(), quote(value, safe=URL_CHARACTERS).encode())
        for name, value in problem.headers.items()
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
