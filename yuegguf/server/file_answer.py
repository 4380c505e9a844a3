"""Files as answers: the bytes that a file had when its answer began, ranges of them, or 304."""

from __future__ import annotations

import os
import stat

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from yuegguf.server.problems import HttpProblem


class SizedFile(FileResponse):
    """A file, of which exactly the announced bytes are sent although it grows meanwhile."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Raises HttpProblem for a file that is gone, and for ranges that it lacks."""
        after, self.background = self.background, None
        try:
            asked = Headers(scope=scope)
            self.stat_result = await run_in_threadpool(self._status)
            self.set_stat_headers(self.stat_result)
            if is_named(self.headers["etag"], asked.get("if-none-match", "")):
                await self._unchanged()(scope, receive, send)
                return
            if asked.get("range", "").partition("=")[0].strip().lower() != "bytes":  # RFC 9110, 14.2
                others = [(name, value) for name, value in scope["headers"] if name.lower() != b"range"]
                scope = {**scope, "headers": others}
            await super().__call__(scope, receive, _Sized(send))
        finally:
            if after is not None:
                await after()

    def _status(self) -> os.stat_result:
        try:
            found = os.stat(self.path)
        except OSError as error:  # it went since it was looked up
            raise _no_such_file() from error
        if not stat.S_ISREG(found.st_mode):
            raise _no_such_file()
        return found

    def _unchanged(self) -> Response:
        kept = ("etag", "last-modified", "cache-control", "accept-ranges")
        return Response(None, 304, {name: self.headers[name] for name in kept if name in self.headers})


class _Sized:
    """`send` that ends an answer with the last of its announced bytes, and raises its refusals."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._left = 0
        """Announced bytes that are not sent yet."""
        self._ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            if message["status"] >= 400:
                raise _refusal(message["status"], headers)
            self._left = int(headers["content-length"])
            await self._send(message)
        elif not self._ended:
            body = message.get("body", b"")[: self._left]
            self._left -= len(body)
            self._ended = not (message.get("more_body", False) and self._left)
            await self._send({**message, "body": body, "more_body": not self._ended})


def is_named(etag: str, header: str) -> bool:
    """Whether an If-None-Match header names an ETag, weak or not."""
    names = [each.strip().removeprefix("W/") for each in header.split(",")]
    return "*" in names or etag in names


def _no_such_file() -> HttpProblem:
    return HttpProblem(404, "no_such_file", "there is no such file", "see the song's files")


def _refusal(status: int, headers: Headers) -> HttpProblem:
    """The error of a Range header."""
    if status == 416:
        whole = headers["content-range"]
        sentence, hint = "the file has no such bytes", f"it has {whole.rpartition('/')[2]} bytes"
        return HttpProblem(416, "no_such_range", sentence, hint, {"Content-Range": whole})
    return HttpProblem(status, "bad_range", "the range cannot be read", "send it as: Range: bytes=0-99")
