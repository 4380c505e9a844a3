"""Routes of what a worker does with a song besides generating it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from yuegguf.server import song_tasks
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.requests import JsonBody, Key, TheLink, TheService, accepted, body_of
from yuegguf.server.song_input import RetakeInput, StemsInput, read_body
from yuegguf.server.task_input import RenderInput

router = APIRouter(prefix="/v1")


@router.post("/songs/{song}/render", status_code=202, openapi_extra=body_of("RenderInput"))
def render(service: TheService, link: TheLink, song: str, body: JsonBody) -> dict[str, Any]:
    """Write a finished song's files anew: another mix, level or format; what is left out stays."""
    song_tasks.render(service, song, read_body(body, RenderInput))
    return service.song(song, link)


@router.post("/songs/{song}/retake", status_code=202, openapi_extra=body_of("RetakeInput"))
def retake(service: TheService, link: TheLink, song: str, body: JsonBody, key: Key = None) -> JSONResponse:
    """Make a new song of this one, with one section generated again."""
    idempotency = Idempotency.of(key, b"retake", song.encode(), body)
    made = service.extend(song, read_body(body, RetakeInput).extension(), idempotency)
    return accepted(service, "songs", made, service.song(made, link))


@router.post("/songs/{song}/stems", status_code=202, openapi_extra=body_of("StemsInput"))
def stems(service: TheService, link: TheLink, song: str, body: JsonBody, key: Key = None) -> JSONResponse:
    """Make a new song that keeps one track of this one, and has the other generated to it."""
    idempotency = Idempotency.of(key, b"stems", song.encode(), body)
    made = song_tasks.stems(service, song, read_body(body, StemsInput), idempotency)
    return accepted(service, "songs", made, service.song(made, link))
