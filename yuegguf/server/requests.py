"""Parts of requests that routes share: the service, JSON bodies, and uploaded recordings."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.datastructures import FormData, UploadFile

from yuegguf.files.atomic import storage_errors
from yuegguf.request.valid_text import is_valid_text
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service
from yuegguf.server.settings import MAX_FILES, MAX_JSON_BODY
from yuegguf.server.shelf import Link
from yuegguf.server.song_input import FILES

SUFFIX = re.compile(r"\.(?:wav|flac|mp3|ogg|opus|m4a|aac|aif|aiff)", re.IGNORECASE)
"""Endings of recordings; others are left out, and the content decides."""
PLAIN_NAME = re.compile(r"\w[\w.@+() -]*")
"""Names of uploaded files that are kept."""
MOST_NAME_BYTES = 200


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _link(request: Request) -> Link:
    link: Link = request.app.state.link
    return link


async def _json_body(request: Request) -> bytes:
    return await request.body()


def form_body(*names: str) -> Any:
    """The dependency of a body: JSON, or multipart with the part `request` and files of these names.

    The files are closed after the request.
    """

    async def body(request: Request) -> AsyncIterator[FormBody]:
        if not request.headers.get("content-type", "").lower().startswith("multipart/"):
            yield FormBody(await request.body(), {})
            return
        form = await request.form(max_files=MAX_FILES, max_fields=1, max_part_size=MAX_JSON_BODY)
        try:
            yield FormBody(await _request_part(form, names), _files_of(form))
        finally:
            await form.close()

    return Depends(body)


async def _request_part(form: FormData, names: Sequence[str]) -> bytes:
    """The JSON in a form whose other parts are files of these names. Raises HttpProblem."""
    text = form.get("request")
    if isinstance(text, UploadFile):
        text = (await text.read(MAX_JSON_BODY)).decode("utf-8", "replace")
    if text is None:
        raise HttpProblem(400, "invalid_body", "the part `request` is missing", "send its JSON in it")
    for name in form:
        if name != "request" and (name not in names or not isinstance(form[name], UploadFile)):
            raise HttpProblem(
                400, "invalid_body", f"the part {name!r:.80} is not known", f"use {', '.join(names)}"
            )
    return text.encode(errors="replace")


def _files_of(form: FormData) -> dict[str, UploadFile]:
    found: dict[str, UploadFile] = {}
    for name, part in form.multi_items():
        if name != "request" and isinstance(part, UploadFile):
            if name in found:
                raise HttpProblem(400, "invalid_body", f"the part {name!r:.80} came twice", "send it once")
            found[name] = part
    return found


def part_name(given: str | None, part: str) -> str:
    """PART.SUFFIX for an uploaded file; a suffix that is none of recordings is left out."""
    ending = Path(given or "").suffix
    return f"{part}{ending.lower() if SUFFIX.fullmatch(ending) else ''}"


def client_path(given: str | None, part: str) -> str:
    """PART/NAME for an uploaded file: the client's name if it is a plain one, else PART.SUFFIX."""
    name = re.split(r"[/\\]", given or "")[-1]
    plain = PLAIN_NAME.fullmatch(name) and is_valid_text(name) and len(name.encode()) <= MOST_NAME_BYTES
    return f"{part}/{name if plain else part_name(given, part)}"


class FormBody:
    """The body of a request with files."""

    def __init__(self, json: bytes, files: dict[str, UploadFile]) -> None:
        """`files` are those that were uploaded, by the names of their parts."""
        self.json, self.files = json, files

    def idempotency(self, key: str | None, *kind: str) -> Idempotency:
        """The key with a hash of the body, its files and the kind of request that it is."""
        parts: list[bytes | IO[bytes]] = [*(each.encode() for each in kind), self.json]
        for name, upload in sorted(self.files.items()):
            upload.file.seek(0)
            parts += [name.encode(), upload.file]
        return Idempotency.of(key, *parts)

    @contextmanager
    def stored(
        self, uploads: Path, name_of: Callable[[str | None, str], str] = part_name
    ) -> Iterator[tuple[str, dict[str, Path]]]:
        """A folder in `uploads` with the files, by their parts; removed where the block fails.

        `name_of` gives a file's path in it for the client's name and the part. Without files there is no
        folder, and its name is empty. Raises StorageError.
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
                    target = folder / name_of(upload.filename, part)
                    target.parent.mkdir(exist_ok=True)
                    upload.file.seek(0)
                    with target.open("xb") as file:
                        shutil.copyfileobj(upload.file, file)
                    found[part] = target
            yield name, found
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


Key = Annotated[str | None, Header(max_length=200, alias="Idempotency-Key")]
TheService = Annotated[Service, Depends(_service)]
TheLink = Annotated[Link, Depends(_link)]
JsonBody = Annotated[bytes, Depends(_json_body)]
TheSongBody = Annotated[FormBody, form_body(*FILES)]


def accepted(
    service: Service, kind: Literal["songs", "tasks", "pulls"], name: str, facts: dict[str, Any]
) -> JSONResponse:
    """The answer with something that was put into a queue: its JSON object, and where it is followed."""
    return JSONResponse(facts, 202, {"Location": f"{service.settings.prefix}/v1/{kind}/{quote(name)}"})


def event_stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """The answer with server-sent events, which nginx would keep back by default."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def body_of(kind: str, *files: str, plain: bool = True) -> dict[str, Any]:
    """The OpenAPI description of a body: JSON if `plain`, and multipart if it may have files."""
    schema = {"$ref": f"#/components/schemas/{kind}"}
    content: dict[str, Any] = {"application/json": {"schema": schema}} if plain else {}
    if files:
        parts = {name: {"type": "string", "format": "binary"} for name in files}
        properties = {"request": {"type": "string", "contentMediaType": "application/json"}, **parts}
        form = {"type": "object", "required": ["request"], "properties": properties}
        content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}
