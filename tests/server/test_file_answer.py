"""Files as answers, while they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.background import BackgroundTask

from yuegguf.server.file_answer import SizedFile, is_named
from yuegguf.server.problems import HttpProblem


def answer(file: SizedFile, at_start: Callable[[], Any], **headers: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of an answer; `at_start` is called once its head is sent."""
    found: list[Any] = []

    async def send(message: Any) -> None:
        found.append(message)
        if message["type"] == "http.response.start":
            at_start()

    async def receive() -> Any:
        await asyncio.Event().wait()

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "headers": given}
    asyncio.run(file(scope, receive, send))
    head, *parts = found
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    named = {name.decode(): value.decode() for name, value in head["headers"]}
    return named, b"".join(part["body"] for part in parts)


@pytest.mark.parametrize("size", [0, 1, SizedFile.chunk_size, 3 * SizedFile.chunk_size + 5])
@pytest.mark.parametrize("more", [0, 1, 2 * SizedFile.chunk_size])
def test_a_file_that_grows_is_sent_as_long_as_it_was_announced(tmp_path: Path, size: int, more: int) -> None:
    path = tmp_path / "preview.wav"
    path.write_bytes(bytes(size))

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"x" * more)

    headers, body = answer(SizedFile(path), grow)
    assert (headers["content-length"], body) == (str(size), bytes(size))


def test_what_is_to_be_done_after_an_answer_is_done_once_and_always(tmp_path: Path) -> None:
    path, done = tmp_path / "bundle.zip", list[str]()
    path.write_bytes(b"zip")

    def file() -> SizedFile:
        return SizedFile(path, background=BackgroundTask(done.append, "x"))

    headers, body = answer(file(), lambda: None)
    assert (body, done) == (b"zip", ["x"])
    assert answer(file(), lambda: None, if_none_match=headers["etag"])[1] == b""
    for refused in ("bytes=9-", "bytes=2-1"):
        with pytest.raises(HttpProblem):
            answer(file(), lambda: None, range=refused)
    path.unlink()
    with pytest.raises(HttpProblem) as problem:
        answer(file(), lambda: None)
    assert problem.value.status == 404
    assert done == ["x"] * 5


@pytest.mark.parametrize(
    ("header", "named"), [("", False), ('"b"', False), ('"b", "a"', True), ('W/"a"', True), ("*", True)]
)
def test_an_etag_is_found_in_its_header(header: str, named: bool) -> None:
    assert is_named('"a"', header) is named
