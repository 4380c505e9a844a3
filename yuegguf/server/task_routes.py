"""Routes of what a worker does with a song besides generating it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse

from yuegguf.server import song_tasks
from yuegguf.server.requests import JsonBody, TheLink, TheService, body_of
from yuegguf.server.service import Idempotency, Service, digest_of
from yuegguf.server.song_input import RetakeInput, StemsInput, read_body
from yuegguf.server.task_input import RenderInput

router = APIRouter(prefix="/v1")


@router.post("/songs/{song}/render", status_code=202, openapi_extra=body_of("RenderInput"))
def render(service: TheService, link: TheLink, song: str, body: JsonBody) -> dict[str, Any]:
    """Write a finished song's files anew: another mix, level or format; what is left out stays."""
    song_tasks.render(service, song, read_body(body, RenderInput))
    return service.song(song, link)


@router.post("/songs/{song}/retake", status_code=202, openapi_extra=body_of("RetakeInput"))
def retake(service: TheService, link: TheLink, song: str, body: JsonBody) -> JSONResponse:
    """Make a new song of this one, with one section generated again."""
    return _made(service, link, service.extend(song, read_body(body, RetakeInput).extension()))


@router.post("/songs/{song}/stems", status_code=202, openapi_extra=body_of("StemsInput"))
def stems(
    service: TheService,
    link: TheLink,
    song: str,
    body: JsonBody,
    key: Annotated[str | None, Header(max_length=200, alias="Idempotency-Key")] = None,
) -> JSONResponse:
    """Make a new song that keeps one track of this one, and has the other generated to it."""
    idempotency = Idempotency(key, digest_of(b"stems", song.encode(), body))
    return _made(service, link, song_tasks.stems(service, song, read_body(body, StemsInput), idempotency))


def _made(service: Service, link: Any, song: str) -> JSONResponse:
    """The answer with a new song."""
    where = f"{service.settings.prefix}/v1/songs/{quote(song)}"
    return JSONResponse(service.song(song, link), 202, {"Location": where})
