"""The application: routes of features below /v1, the page, and errors as JSON."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteProblem
from starlette.routing import Match

from yuegguf import __version__
from yuegguf.errors import YueError, explained
from yuegguf.server import (
    cog_routes,
    import_routes,
    model_routes,
    own_task_routes,
    pull_routes,
    song_routes,
    task_routes,
)
from yuegguf.server.access import Access
from yuegguf.server.cog_input import PredictionBody
from yuegguf.server.file_answer import SizedFile
from yuegguf.server.predictions import Predictions
from yuegguf.server.problems import HttpProblem, error_json, status_of, without_folder
from yuegguf.server.service import Service
from yuegguf.server.song_input import ExtendInput, KeepInput, MoveInput, RetakeInput, SongInput, StemsInput
from yuegguf.server.task_input import INPUTS

PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
METHODS = ("DELETE", "GET", "HEAD", "POST")
"""Methods that routes have."""
DESCRIPTION = "Songs from tags and lyrics with YuE. See docs/server.md."


def make_app(service: Service) -> Access:
    """The application of a service, behind its checks."""
    app = FastAPI(
        title="yuegguf",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    access = Access(app, service.settings)
    app.state.service, app.state.link = service, access.link
    if "cog" in service.settings.compat:
        app.state.predictions = predictions = Predictions(service, access.link)
        service.at_end(predictions.stop)
        app.include_router(cog_routes.router)
    app.include_router(song_routes.router)
    app.include_router(task_routes.router)
    app.include_router(own_task_routes.router)
    app.include_router(import_routes.router)
    app.include_router(pull_routes.router)
    app.include_router(model_routes.router)
    app.add_api_route("/", page, include_in_schema=False, methods=["GET", "HEAD"])
    app.add_api_route("/page/{name}", page_file, include_in_schema=False, methods=["GET", "HEAD"])
    for kind in (YueError, Exception):
        app.add_exception_handler(kind, failure)
    app.add_exception_handler(RequestValidationError, refusal)
    app.add_exception_handler(StarletteProblem, refusal)
    _describe_bodies(app)
    return access


def page() -> Response:
    """The page."""
    return _page_file("index.html")


def page_file(name: str) -> Response:
    """A file of the page."""
    return _page_file(name)


def _page_file(name: str) -> Response:
    folder = Path(str(resources.files("yuegguf") / "server" / "page"))
    if name not in {file.name for file in folder.iterdir()}:
        raise HttpProblem(404, "not_found", "there is nothing here", "the page is at /")
    media_type = PAGE_TYPES[Path(name).suffix]
    return SizedFile(folder / name, media_type=media_type, headers={"Cache-Control": "no-cache"})


def failure(request: Request, error: Exception) -> Response:
    """An error as JSON, with the sentence of the command line but without the place of the songs' folder."""
    known = explained(error)
    headers = known.headers if isinstance(known, HttpProblem) else {}
    facts = without_folder(error_json(known), request.app.state.service.settings.songs)
    return JSONResponse({"error": facts}, status_of(known), headers)


def refusal(request: Request, error: Exception) -> Response:
    """A refusal of the framework itself: no such route, or no such method."""
    status = error.status_code if isinstance(error, StarletteProblem) else 400
    sentences = {404: "there is nothing here", 405: "this method does nothing here"}
    sentence = sentences.get(status, "the request cannot be used")
    if isinstance(error, RequestValidationError) and (first := error.errors()[:1]):
        sentence = f"{first[0]['loc'][-1]!s:.80} cannot be used ({first[0]['msg']!s:.120})"
    problem = HttpProblem(status, "refused", sentence, "see /v1/openapi.json")
    return JSONResponse({"error": error_json(problem)}, status, _allowed(request) if status == 405 else {})


def _allowed(request: Request) -> dict[str, str]:
    """The Allow header of a path, which may have a route for each of its methods."""
    found = [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] == Match.FULL
            for route in request.app.routes
        )
    ]
    return {"Allow": ", ".join(found)}


def _describe_bodies(app: FastAPI) -> None:
    """Put the schemas of the bodies, which are checked by msgspec, into the OpenAPI document."""
    kinds = (PredictionBody, SongInput, StemsInput, ExtendInput, RetakeInput, KeepInput, MoveInput, *INPUTS)
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    framework = app.openapi

    def described() -> dict[str, Any]:
        document = framework()
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        return document

    app.openapi = described  # type: ignore[method-assign]
