"""Routes of songs: create, list, follow, steer, download, delete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

from yuegguf.api.files import export_song
from yuegguf.exchange.zip_bundle import write_zip
from yuegguf.server.deletion import delete_song
from yuegguf.server.file_answer import SizedFile
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.listing import PageChoice
from yuegguf.server.peaks import peaks_of
from yuegguf.server.problems import HttpProblem
from yuegguf.server.requests import (
    JsonBody,
    Key,
    TheLink,
    TheService,
    TheSongBody,
    accepted,
    body_of,
    event_stream,
)
from yuegguf.server.service import Service
from yuegguf.server.shelf import MEDIA_TYPES, project_json
from yuegguf.server.song_input import (
    FILES,
    ExtendInput,
    KeepInput,
    MoveInput,
    SongInput,
    read_body,
)
from yuegguf.server.song_parsing import parse_song
from yuegguf.server.waiting import wait_for_end
from yuegguf.song.folder import SongFolder

router = APIRouter(prefix="/v1")


@router.post("/check", openapi_extra=body_of("SongInput", *FILES))
def check(service: TheService, body: TheSongBody) -> dict[str, Any]:
    """Check a song without generating it: sections, fit, time, memory."""
    with body.stored(service.settings.uploads) as (name, files):
        try:
            return service.check(parse_song(read_body(body.json, SongInput), service.settings.choice, files))
        finally:
            if name:
                shutil.rmtree(service.settings.uploads / name, ignore_errors=True)


@router.post("/songs", status_code=202, openapi_extra=body_of("SongInput", *FILES))
async def create(
    service: TheService,
    link: TheLink,
    body: TheSongBody,
    key: Key = None,
    prefer: Annotated[str | None, Header()] = None,
) -> JSONResponse:
    """Create a song: it waits in the queue from now on."""
    song = await run_in_threadpool(_create, service, body, key)
    await wait_for_end(service, song, prefer)
    return accepted(service, "songs", song, await run_in_threadpool(service.song, song, link))


def _create(service: Service, body: TheSongBody, key: str | None) -> str:
    idempotency = body.idempotency(key)
    if (song := service.known(idempotency)) is not None:
        return song
    with body.stored(service.settings.uploads) as (uploads, files):
        parsed = parse_song(read_body(body.json, SongInput), service.settings.choice, files)
        return service.create(parsed, idempotency, uploads)


@router.get("/songs")
def list_songs(
    service: TheService,
    link: TheLink,
    status: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
) -> dict[str, Any]:
    """List songs, the newest first."""
    return service.listed(PageChoice(limit, status, after), link)


@router.get("/songs/{song}")
def get(service: TheService, link: TheLink, song: str) -> dict[str, Any]:
    """Show a song."""
    return service.song(song, link)


@router.get("/songs/{song}/events")
def events(
    service: TheService, link: TheLink, song: str, last_event_id: Annotated[str, Header(max_length=100)] = ""
) -> StreamingResponse:
    """Follow a song by server-sent events: status, progress, section, preview, take, warning, done."""
    since = service.hub.newest()
    status = service.song(song, link)
    stream = service.hub.listen(song, last_event_id, status, since)
    return event_stream(stream)


@router.post("/songs/{song}/cancel")
def cancel(service: TheService, link: TheLink, song: str) -> dict[str, Any]:
    """Stop a song within a token; everything it has is kept."""
    service.cancel(song)
    return service.song(song, link)


@router.post("/songs/{song}/resume", status_code=202)
def resume(service: TheService, link: TheLink, song: str) -> dict[str, Any]:
    """Go on with a song that was cancelled, interrupted or failed."""
    service.resume(song)
    return service.song(song, link)


@router.post("/songs/{song}/refine", status_code=202)
def refine(service: TheService, link: TheLink, song: str) -> dict[str, Any]:
    """Take a drafted song to its end."""
    service.resume(song, refine=True)
    return service.song(song, link)


@router.post("/songs/{song}/keep", status_code=202, openapi_extra=body_of("KeepInput"))
def keep(service: TheService, link: TheLink, song: str, body: JsonBody) -> dict[str, Any]:
    """Take some of several takes to their ends."""
    ids = service.keep(song, read_body(body, KeepInput).takes)
    return {"object": "list", "data": [service.song(each, link) for each in ids]}


@router.post("/songs/{song}/extend", status_code=202, openapi_extra=body_of("ExtendInput"))
def extend(service: TheService, link: TheLink, song: str, body: JsonBody, key: Key = None) -> JSONResponse:
    """Make a new song that goes on from this one, or that has a section of it generated again."""
    idempotency = Idempotency.of(key, b"extend", song.encode(), body)
    made = service.extend(song, read_body(body, ExtendInput), idempotency)
    return accepted(service, "songs", made, service.song(made, link))


@router.post("/songs/{song}/move", openapi_extra=body_of("MoveInput"))
def move(service: TheService, link: TheLink, song: str, body: JsonBody) -> dict[str, Any]:
    """Move a waiting song to a position of the queue, from 0 on."""
    service.move(song, read_body(body, MoveInput).position)
    return service.song(song, link)


@router.get("/songs/{song}/export.zip")
def export(
    service: TheService, song: str, format: Annotated[Literal["npy", "yue-ui"], Query()] = "npy"
) -> SizedFile:
    """Give a song's codes as infer.py's .npy files, or as a project of YuE-UI, in a zip."""
    folder = service.shelf.path(song)
    place = Path(tempfile.mkdtemp(prefix="export-", dir=_uploads(service)))
    with _removed_on_failure(place):
        name = f"{song.replace(':', '-')}-{format}.zip"
        export_song(folder, place / "files", yue_ui=format == "yue-ui")
        return _zip(write_zip(place / name, place / "files"), place)


@router.delete("/songs/{song}")
def delete(service: TheService, song: str, force: bool = False) -> dict[str, Any]:
    """Delete a song with all its files; with ?force=true also where others have put files into its folder."""
    delete_song(service, song, force=force)
    return {"id": song, "object": "song", "deleted": True}


@router.head("/songs/{song}/audio/{name}", include_in_schema=False)
@router.get("/songs/{song}/audio/{name}")
def audio(service: TheService, request: Request, song: str, name: str) -> SizedFile:
    """Give an audio file of a song, or a range of its bytes; with ?download=1 to be saved."""
    file = service.shelf.audio_file(song, name)
    kind = "attachment" if request.query_params.get("download") else "inline"
    return SizedFile(
        file,
        media_type=MEDIA_TYPES[file.suffix],
        filename=f"{song.replace(':', '-')}-{name}",
        content_disposition_type=kind,
        headers={"Cache-Control": "no-cache"},
    )


@router.get("/songs/{song}/peaks")
def peaks(
    service: TheService, song: str, name: str = "mix.wav", points: Annotated[int, Query(ge=1, le=4000)] = 800
) -> dict[str, Any]:
    """Give the loudest sample of each of so many parts of an audio file, to draw it."""
    file = service.shelf.audio_file(song, name)
    return {"object": "peaks", "name": name, **peaks_of(file, points)}


@router.get("/songs/{song}/project")
def project(service: TheService, song: str) -> dict[str, Any]:
    """Give the song's song.json without this machine's paths."""
    return project_json(service.shelf.open(song))


@router.get("/songs/{song}/text/{name}")
def text(service: TheService, song: str, name: str) -> SizedFile:
    """Give the section markers (markers.txt) or the timed lyrics (lyrics.lrc) of a song."""
    opened: SongFolder = service.shelf.open(song)
    if name not in ("markers.txt", "lyrics.lrc") or not (opened.path / name).is_file():
        raise HttpProblem(404, "no_such_file", "there is no such text", "it is written with the audio")
    filename = f"{song.replace(':', '-')}-{name}"
    return SizedFile(opened.path / name, media_type="text/plain; charset=utf-8", filename=filename)


@router.get("/songs/{song}/bundle.zip")
def bundle(service: TheService, song: str) -> SizedFile:
    """Give a finished song as one zip."""
    place = Path(tempfile.mkdtemp(prefix="bundle-", dir=_uploads(service)))
    with _removed_on_failure(place), service.bundle(song, place) as file:
        return _zip(file, place)


@contextmanager
def _removed_on_failure(place: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _zip(file: Path, place: Path) -> SizedFile:
    """The answer with a zip, after which the folder `place` is removed."""
    removal = BackgroundTask(shutil.rmtree, place, ignore_errors=True)
    return SizedFile(file, media_type="application/zip", filename=file.name, background=removal)


def _uploads(service: Service) -> Path:
    service.settings.uploads.mkdir(exist_ok=True)
    return service.settings.uploads
