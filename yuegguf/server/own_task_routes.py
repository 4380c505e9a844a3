"""Routes of tasks that belong to no song: followed, cancelled, their files; codes and voices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse

from yuegguf.errors import YueError
from yuegguf.exchange.decode_files import check_decoding
from yuegguf.exchange.encode_files import check_encoding
from yuegguf.models.resolve import resolve_codec
from yuegguf.pipeline.voice import check_voice
from yuegguf.server.file_answer import SizedFile
from yuegguf.server.new_tasks import TheTasks, followed, new_task
from yuegguf.server.own_tasks import FILE_TYPES
from yuegguf.server.problems import HttpProblem, without_folder
from yuegguf.server.requests import FormBody, Key, TheLink, TheService, body_of, form_body
from yuegguf.server.service import collect
from yuegguf.server.song_input import RECORDINGS, read_body
from yuegguf.server.song_parsing import uploaded_reference
from yuegguf.server.task_input import DecodeInput, EncodeInput, VoiceInput
from yuegguf.server.task_work import RECORDED
from yuegguf.server.tasks import DecodeTask, EncodeTask, Task, VoiceTask
from yuegguf.song import voices

router = APIRouter(prefix="/v1")
RECORDING, TRACKS = "recording", ("vtrack", "itrack")


@router.get("/tasks")
def list_tasks(tasks: TheTasks, link: TheLink) -> dict[str, Any]:
    """List the tasks that belong to no song, the newest first; they are kept for a day after their end."""
    return tasks.listed(link)


@router.get("/tasks/{task}")
def get(tasks: TheTasks, link: TheLink, task: str) -> dict[str, Any]:
    """Show a task."""
    return tasks.shown(task, link)


@router.get("/tasks/{task}/events")
def events(
    service: TheService,
    tasks: TheTasks,
    link: TheLink,
    task: str,
    last_event_id: Annotated[str, Header(max_length=100)] = "",
) -> StreamingResponse:
    """Follow a task by server-sent events: status, progress, warning, done."""
    return followed(service, tasks, link, task, last_event_id)


@router.post("/tasks/{task}/cancel")
def cancel(tasks: TheTasks, link: TheLink, task: str) -> dict[str, Any]:
    """Take a task out of its queue, or stop it."""
    tasks.cancel(task)
    return tasks.shown(task, link)


@router.delete("/tasks/{task}")
def delete(tasks: TheTasks, task: str) -> dict[str, Any]:
    """Forget a task that has ended, with its files."""
    tasks.delete(task)
    return {"id": task, "object": "task", "deleted": True}


@router.head("/tasks/{task}/files/{name}", include_in_schema=False)
@router.get("/tasks/{task}/files/{name}")
def file(tasks: TheTasks, request: Request, task: str, name: str) -> SizedFile:
    """Give a file that a task has made; with ?download=1 to be saved."""
    found = tasks.file(task, name)
    kind = "attachment" if request.query_params.get("download") else "inline"
    return SizedFile(found, media_type=FILE_TYPES[found.suffix], filename=name, content_disposition_type=kind)


@router.post("/codec/encode", status_code=202, openapi_extra=body_of("EncodeInput", RECORDING, plain=False))
def encode(
    service: TheService,
    link: TheLink,
    body: Annotated[FormBody, form_body(RECORDING)],
    key: Key = None,
) -> JSONResponse:
    """Encode a recording to codes, as a task whose file is an .npy."""
    options = read_body(body.json, EncodeInput).options()

    def checked(files: dict[str, Path]) -> Task:
        if RECORDING not in files:
            raise HttpProblem(400, "invalid_body", "the recording is missing", f"send the part `{RECORDING}`")
        codec = resolve_codec(service.settings.choice)
        check_encoding([files[RECORDING]], codec, options, service.settings.compute)
        return EncodeTask(file=f"{RECORDING}/{files[RECORDING].name}", options=options)

    return new_task(service, link, body, body.idempotency(key, "encode"), checked)


@router.post("/codec/decode", status_code=202, openapi_extra=body_of("DecodeInput", *TRACKS, plain=False))
def decode(
    service: TheService,
    link: TheLink,
    body: Annotated[FormBody, form_body(*TRACKS)],
    key: Key = None,
) -> JSONResponse:
    """Make audio of the codes of both tracks, or of one of them, as a task."""
    output = read_body(body.json, DecodeInput).output()

    def checked(files: dict[str, Path]) -> Task:
        if not files:
            raise HttpProblem(400, "invalid_body", "the codes are missing", f"send {' or '.join(TRACKS)}")
        check_decoding([files[name] for name in TRACKS if name in files], output)
        return DecodeTask(files=tuple(files[name].name for name in TRACKS if name in files), output=output)

    return new_task(
        service, link, body, body.idempotency(key, "decode"), checked,
        name_of=lambda _, part: f"{part}.npy",
    )  # fmt: skip


@router.get("/voices")
def list_voices(service: TheService) -> dict[str, Any]:
    """List the saved voices; a damaged one has a problem in the place of its facts."""
    found = (_voice(name) for name in voices.voice_names())
    return {"object": "list", "data": [without_folder(each, service.settings.songs) for each in found]}


def _voice(name: str) -> dict[str, Any]:
    try:
        return {"object": "voice", **voices.load_voice(name).to_json()}
    except YueError as error:  # one damaged file must not hide the others
        return {"object": "voice", "name": name, "problem": error.message}


@router.get("/voices/{name}")
def get_voice(name: str) -> dict[str, Any]:
    """Show a voice: its recording, window, date and codec."""
    _check_is_there(name)
    return {"object": "voice", **voices.load_voice(name).to_json()}


@router.post("/voices", status_code=202, openapi_extra=body_of("VoiceInput", *RECORDINGS, plain=False))
def save_voice(
    service: TheService,
    link: TheLink,
    body: Annotated[FormBody, form_body(*RECORDINGS)],
    key: Key = None,
) -> JSONResponse:
    """Keep a recording's window, or that of a vocal and its backing, as a voice, by a task."""
    asked = read_body(body.json, VoiceInput)
    warnings: list[str] = []

    def checked(files: dict[str, Path]) -> Task:
        reference = uploaded_reference(files, asked.ref_start, asked.ref_end)
        codec = resolve_codec(service.settings.choice)
        check_voice(
            asked.name, reference, codec, service.settings.compute,
            replace=asked.replace, progress=collect(warnings),
        )  # fmt: skip
        named: dict[str, Any] = {
            field: f"{Path(file).parent.name}/{Path(file).name}"
            for field in RECORDED
            if (file := getattr(reference, field)) is not None
        }
        return VoiceTask(name=asked.name, reference=replace(reference, **named), replace=asked.replace)

    return new_task(service, link, body, body.idempotency(key, "voice"), checked, warnings=warnings)


@router.delete("/voices/{name}")
def delete_voice(name: str) -> dict[str, Any]:
    """Delete a voice; songs that use it keep their own copy."""
    _check_is_there(name)
    voices.remove_voice(name)
    return {"name": name, "object": "voice", "deleted": True}


def _check_is_there(name: str) -> None:
    if name not in voices.voice_names():
        raise HttpProblem(404, "no_such_voice", "there is no such voice", "list them with GET /v1/voices")
