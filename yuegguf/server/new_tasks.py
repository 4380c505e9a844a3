"""Answers to requests that make a task which belongs to no song."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import Depends
from fastapi.responses import JSONResponse, StreamingResponse

from yuegguf.server.idempotency import Idempotency
from yuegguf.server.own_tasks import OwnTasks
from yuegguf.server.requests import FormBody, TheService, accepted, client_path, event_stream
from yuegguf.server.service import Service
from yuegguf.server.shelf import Link
from yuegguf.server.tasks import Task


def _tasks(service: TheService) -> OwnTasks:
    return OwnTasks(service)


TheTasks = Annotated[OwnTasks, Depends(_tasks)]


def followed(
    service: Service, tasks: OwnTasks, link: Link, task: str, last_event_id: str
) -> StreamingResponse:
    """The answer with a task's server-sent events. Raises HttpProblem."""
    since, row = service.hub.newest(), tasks.row(task)
    stream = service.hub.listen(row.song, last_event_id, tasks.shown(task, link), since)
    return event_stream(stream)


def new_task(
    service: Service,
    link: Link,
    body: FormBody,
    idempotency: Idempotency,
    checked: Callable[[dict[str, Path]], Task],
    *,
    warnings: Sequence[str] = (),
    name_of: Callable[[str | None, str], str] = client_path,
) -> JSONResponse:
    """The answer with a new task; `checked` gives it for the uploaded files, once all is checked.

    `name_of` gives their paths in the task's folder.
    """
    tasks, uploads = OwnTasks(service), service.settings.uploads
    with service.creating:
        found = tasks.known(idempotency)
        if found is None:
            with body.stored(uploads, name_of) as (name, files):
                found = tasks.create(checked(files), "audio", idempotency, name, warnings)
    return accepted(service, "tasks", found, tasks.shown(found, link))
