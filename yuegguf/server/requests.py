"""Parts of requests that routes share: the service, JSON bodies, and uploaded recordings."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from yuegguf.files.atomic import storage_errors
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service, digest_of
from yuegguf.server.settings import MAX_FILES, MAX_JSON_BODY
from yuegguf.server.shelf import Link
from yuegguf.server.song_input import RECORDINGS

SUFFIX = re.compile(r"\.(?:wav|flac|mp3|ogg|opus|m4a|aac|aif|aiff)", re.IGNORECASE)
"""Endings of recordings; others are left out, and the content decides."""


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _link(request: Request) -> Link:
    link: Link = request.app.state.link
    return link


async def _json_body(request: Request) -> bytes:
    return await request.body()


async def _song_body(request: Request) -> AsyncIterator[SongBody]:
    """JSON, or multipart with the part `request` and recordings, which are closed after the request."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        yield SongBody(await request.body(), FormData())
        return
    form = await request.form(max_files=MAX_FILES, max_fields=1, max_part_size=MAX_JSON_BODY)
    try:
        yield SongBody(await _request_part(form), form)
    finally:
        await form.close()


async def _request_part(form: FormData) -> bytes:
    """The JSON in a form whose other parts are recordings. Raises HttpProblem."""
    text = form.get("request")
    if isinstance(text, UploadFile):
        text = (await text.read(MAX_JSON_BODY)).decode("utf-8", "replace")
    if text is None:
        raise HttpProblem(400, "invalid_body", "the part `request` is missing", "send the song's JSON in it")
    for name in form:
        if name != "request" and (name not in RECORDINGS or not isinstance(form[name], UploadFile)):
            raise HttpProblem(
                400, "invalid_body", f"the part {name!r:.80} is not known", f"use {', '.join(RECORDINGS)}"
            )
    return text.encode(errors="replace")


class SongBody:
    """The body of a request for a song."""

    def __init__(self, json: bytes, form: FormData) -> None:
        self.json, self._form = json, form

    @property
    def files(self) -> dict[str, UploadFile]:
        """Uploaded recordings by name."""
        return {
            name: part
            for name, part in self._form.items()
            if isinstance(part, UploadFile) and name in RECORDINGS
        }

    def digest(self) -> str:
        """A hash of the body with its recordings."""
        parts = [self.json]
        for name, upload in sorted(self.files.items()):
            upload.file.seek(0)
            parts += [name.encode(), upload.file.read()]
            upload.file.seek(0)
        return digest_of(*parts)

    @contextmanager
    def stored(self, uploads: Path) -> Iterator[tuple[str, dict[str, Path]]]:
        """A folder in `uploads` with the recordings, by name; removed where the block fails.

        The names of files are ours. Raises StorageError.
        """
        if not self.files:
            yield "", {}
            return
        name = secrets.token_hex(8)
        folder = uploads / name
        try:
            with storage_errors(folder):
                folder.mkdir(parents=True)
                found = {}
                for part, upload in self.files.items():
                    ending = Path(upload.filename or "").suffix
                    target = folder / f"{part}{ending.lower() if SUFFIX.fullmatch(ending) else ''}"
                    upload.file.seek(0)
                    with target.open("xb") as file:
                        shutil.copyfileobj(upload.file, file)
                    found[part] = target
            yield name, found
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


TheService = Annotated[Service, Depends(_service)]
TheLink = Annotated[Any, Depends(_link)]
JsonBody = Annotated[bytes, Depends(_json_body)]
TheSongBody = Annotated[SongBody, Depends(_song_body)]


def body_of(kind: str, multipart: bool = False) -> dict[str, Any]:
    """The OpenAPI description of a body."""
    schema = {"$ref": f"#/components/schemas/{kind}"}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if multipart:
        files = {name: {"type": "string", "format": "binary"} for name in RECORDINGS}
        properties = {"request": {"type": "string", "contentMediaType": "application/json"}, **files}
        form = {"type": "object", "required": ["request"], "properties": properties}
        content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}
