"""Routes of Replicate's API and of Cog's: predictions, for programs that were written for them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from yuegguf.errors import YueError
from yuegguf.server.cog_input import PredictionBody, version_json
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.predictions import DEFAULT_MODEL, Predictions
from yuegguf.server.problems import HttpProblem, error_json, status_of, without_folder
from yuegguf.server.requests import JsonBody, Key, body_of
from yuegguf.server.song_input import read_body
from yuegguf.server.waiting import wait_for_end


class CogRoute(APIRoute):
    """A route whose errors also have the form that clients of Replicate show (RFC 7807)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except YueError as error:
                songs = request.app.state.service.settings.songs
                shown = without_folder(error_json(error), songs)
                detail = "; ".join(filter(None, (shown["message"], shown["hint"])))
                facts = {"title": "Request refused", "status": status_of(error), "detail": detail}
                headers = error.headers if isinstance(error, HttpProblem) else {}
                return JSONResponse({"error": shown, **facts}, status_of(error), headers)

        return handle


router = APIRouter(route_class=CogRoute)
VERSION_CREATED = "2026-01-01T00:00:00Z"
COG_VERSION = "0.16.0"
"""Version of Cog whose form of schemas is used; clients compare it."""


def _predictions(request: Request) -> Predictions:
    predictions: Predictions = request.app.state.predictions
    return predictions


ThePredictions = Annotated[Predictions, Depends(_predictions)]
Prefer = Annotated[str | None, Header(max_length=100)]


@dataclass(frozen=True)
class Sent:
    """The request for a prediction, as a client sends it."""

    body: bytes
    prefer: str = ""
    key: str | None = None


def _sent(body: JsonBody, prefer: Prefer = None, key: Key = None) -> Sent:
    return Sent(body, prefer or "", key)


TheSent = Annotated[Sent, Depends(_sent)]


def _root(request: Request, predictions: Predictions) -> str:
    """URL of this server as the client wrote it; the host was checked before."""
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host}{predictions.service.settings.prefix}"


@router.post("/predictions", status_code=201, openapi_extra=body_of("PredictionBody"))
@router.post("/v1/predictions", status_code=201, openapi_extra=body_of("PredictionBody"))
async def create(request: Request, predictions: ThePredictions, sent: TheSent) -> JSONResponse:
    """Create a prediction: its song waits in the queue from now on."""
    return await _create(request, predictions, sent, DEFAULT_MODEL)


@router.post(
    "/v1/models/{owner}/{name}/predictions", status_code=201, openapi_extra=body_of("PredictionBody")
)
@router.post(
    "/v1/deployments/{owner}/{name}/predictions", status_code=201, openapi_extra=body_of("PredictionBody")
)
async def create_by_name(
    request: Request, predictions: ThePredictions, owner: str, name: str, sent: TheSent
) -> JSONResponse:
    """Create a prediction of a model of any name: there is one here."""
    return await _create(request, predictions, sent, f"{owner:.100}/{name:.100}")


async def _create(request: Request, predictions: Predictions, sent: Sent, model: str) -> JSONResponse:
    asked, root = read_body(sent.body, PredictionBody), _root(request, predictions)
    idempotency = Idempotency.of(sent.key, b"prediction", model.encode(), sent.body)
    song = await run_in_threadpool(predictions.create, asked, model, root, idempotency)
    waited = await wait_for_end(predictions.service, song, sent.prefer)
    found = await run_in_threadpool(predictions.get, song)
    if waited and found["status"] == "processing":  # else clients take the request for done
        found["status"] = "starting"
    return JSONResponse(found, 202 if sent.prefer.strip().lower() == "respond-async" else 201)


@router.get("/predictions/{song}")
@router.get("/v1/predictions/{song}")
def get(predictions: ThePredictions, song: str) -> dict[str, Any]:
    """Show a prediction."""
    return predictions.get(song)


@router.post("/predictions/{song}/cancel")
@router.post("/v1/predictions/{song}/cancel")
def cancel(predictions: ThePredictions, song: str) -> dict[str, Any]:
    """Stop a prediction within a token; what its song has is kept."""
    return predictions.cancel(song)


@router.get("/v1/models/{owner}/{name}/versions/{version}")
def version(owner: str, name: str, version: str) -> dict[str, Any]:
    """Describe inputs and output of the model, which has every name and version."""
    return version_json(version, VERSION_CREATED, COG_VERSION)
