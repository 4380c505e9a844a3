"""Routes that change the installed models, for holders of the key alone: pull, verify, remove."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi.responses import JSONResponse, StreamingResponse

from yuegguf.models import inventory
from yuegguf.models.install import wanted_models
from yuegguf.planning import hardware
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.new_tasks import TheTasks, followed
from yuegguf.server.own_tasks import OwnTasks
from yuegguf.server.problems import HttpProblem
from yuegguf.server.requests import JsonBody, Key, TheLink, TheService, accepted, body_of
from yuegguf.server.service import Service
from yuegguf.server.shelf import Link
from yuegguf.server.song_input import read_body
from yuegguf.server.task_input import PullInput
from yuegguf.server.tasks import Task, VerifyTask

router = APIRouter(prefix="/v1")
KINDS = ("pull", "verify")


def _check_key(service: TheService) -> None:
    """Refuse a change of the models where the server has no key, which anybody could make then."""
    if not service.settings.key:
        raise HttpProblem(
            403, "key_needed", "models are changed by holders of a key alone", "start the server with --key"
        )


KeyHolder = Depends(_check_key)
PULL = body_of("PullInput")


@router.post("/pulls", status_code=202, openapi_extra=PULL, dependencies=[KeyHolder])
def pull(
    service: TheService, tasks: TheTasks, link: TheLink, body: JsonBody, key: Key = None
) -> JSONResponse:
    """Download, convert and install models by name, or those of a set, by a task."""
    return _pulled(service, tasks, link, read_body(body, PullInput), _idempotency(key, "pull", body))


@router.post("/models/{name}/pull", status_code=202, openapi_extra=PULL, dependencies=[KeyHolder])
def pull_one(
    service: TheService, tasks: TheTasks, link: TheLink, name: str, body: JsonBody, key: Key = None
) -> JSONResponse:
    """Download, convert and install a model, such as en-cot:Q4_K_M, by a task."""
    asked = read_body(body or b"{}", PullInput)
    if asked.names or asked.set:
        raise HttpProblem(422, "bad_request", "the model is in the path", "use POST /v1/pulls for several")
    idempotency = _idempotency(key, "pull", body, name)
    return _pulled(service, tasks, link, asked.named(name), idempotency)


def _pulled(
    service: Service, tasks: OwnTasks, link: Link, asked: PullInput, idempotency: Idempotency
) -> JSONResponse:
    memory = hardware.available_memory()
    wanted_models(asked.names, asked.set, asked.quant, memory, from_gguf=asked.from_gguf)
    return _created(service, tasks, link, asked.task(), idempotency)


@router.post("/models/verify", status_code=202, dependencies=[KeyHolder])
def verify(service: TheService, tasks: TheTasks, link: TheLink, key: Key = None) -> JSONResponse:
    """Compare all installed files with what was installed, byte for byte, by a task."""
    return _created(service, tasks, link, VerifyTask(), _idempotency(key, "verify"))


@router.post("/models/{name}/verify", status_code=202, dependencies=[KeyHolder])
def verify_one(
    service: TheService, tasks: TheTasks, link: TheLink, name: str, key: Key = None
) -> JSONResponse:
    """Compare the files of a model with what was installed, by a task."""
    inventory.entry_and_type(name)  # else a name could be that of any file
    inventory.files_of_name(name, service.settings.choice.root)
    idempotency = _idempotency(key, "verify", name=name)
    return _created(service, tasks, link, VerifyTask(names=(name,)), idempotency)


@router.delete("/models/{name}", dependencies=[KeyHolder])
def remove(service: TheService, name: str) -> dict[str, Any]:
    """Remove an installed model in all types, or in one, with its kept or unfinished download."""
    root = service.settings.choice.root
    gone = inventory.remove([name], root)
    files = [path.relative_to(root).as_posix() for path in gone]
    return {"id": name, "object": "model", "deleted": True, "files": files}


@router.get("/pulls")
def list_pulls(tasks: TheTasks, link: TheLink) -> dict[str, Any]:
    """List the tasks on models, the newest first."""
    return tasks.listed(link, KINDS)


@router.get("/pulls/{task}")
def get(tasks: TheTasks, link: TheLink, task: str) -> dict[str, Any]:
    """Show a task on models."""
    return tasks.shown(task, link, KINDS)


@router.get("/pulls/{task}/events")
def events(
    service: TheService,
    tasks: TheTasks,
    link: TheLink,
    task: str,
    last_event_id: Annotated[str, Header(max_length=100)] = "",
) -> StreamingResponse:
    """Follow a task on models by server-sent events."""
    return followed(service, tasks, link, task, last_event_id)


@router.post("/pulls/{task}/cancel", dependencies=[KeyHolder])
def cancel(tasks: TheTasks, link: TheLink, task: str) -> dict[str, Any]:
    """Stop a task on models; what has arrived is kept, and the same request goes on."""
    tasks.cancel(task, KINDS)
    return tasks.shown(task, link, KINDS)


def _idempotency(key: str | None, kind: str, body: bytes = b"", name: str = "") -> Idempotency:
    return Idempotency.of(key, kind.encode(), name.encode(errors="replace"), body)


def _created(
    service: Service, tasks: OwnTasks, link: Link, task: Task, idempotency: Idempotency
) -> JSONResponse:
    """The answer with a new task on models."""
    with service.creating:
        made = tasks.known(idempotency) or tasks.create(task, "models", idempotency)
    return accepted(service, "pulls", made, tasks.shown(made, link))
