"""Tasks that belong to no song: their objects, files and end, apart from HTTP.

The id of a task is the name of its folder among the uploads; a row keeps it for KEPT_SECONDS after its end.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yuegguf.server.idempotency import Idempotency
from yuegguf.server.jobs import ACTIVE, Job, Queue
from yuegguf.server.problems import HttpProblem, without_folder
from yuegguf.server.service import Service
from yuegguf.server.shelf import MEDIA_TYPES, Link, task_name, time_text
from yuegguf.server.tasks import RESULTS, TASK_PREFIX, Task, task_json

KEPT_SECONDS = 86400.0
"""Seconds after its end for which a task and its files are kept."""
FILE_TYPES = {**MEDIA_TYPES, ".npy": "application/octet-stream"}
"""Suffix of a file that a task makes → its content type."""


class OwnTasks:
    """The tasks of a service that belong to no song."""

    def __init__(self, service: Service) -> None:
        self._service, self._store = service, service.store

    def create(
        self,
        task: Task,
        queue: Queue,
        idempotency: Idempotency,
        uploads: str = "",
        warnings: Sequence[str] = (),
    ) -> str:
        """Put a task into a queue, with its folder among the uploads; its id. Raises HttpProblem.

        The caller holds `Service.creating`, and knows that no request with this key was made before.
        """
        self._service.check_room()
        self._remove_old()
        name = uploads or secrets.token_hex(8)
        row = f"{TASK_PREFIX}{name}"
        self._store.insert_task(
            row, task_json(task), queue,
            uploads=uploads, idempotency=idempotency.key, digest=idempotency.digest, warnings=warnings,
        )  # fmt: skip
        self._service.queues.wake(queue)
        return name

    def known(self, idempotency: Idempotency) -> str | None:
        """The task that a request with this key has made before. Raises HttpProblem for another body."""
        row = self._service.known(idempotency)
        return None if row is None else row.removeprefix(TASK_PREFIX)

    def _remove_old(self) -> None:
        for job in self._store.all("succeeded", "failed", "canceled"):
            if job.song.startswith(TASK_PREFIX) and (job.completed or 0) < time.time() - KEPT_SECONDS:
                self._remove(job)

    def _remove(self, job: Job) -> None:
        if job.uploads:
            shutil.rmtree(self._service.settings.uploads / job.uploads, ignore_errors=True)
        self._store.delete([job.song])

    def row(self, task: str, kinds: Sequence[str] = ()) -> Job:
        """The row of a task, of these kinds if there are any. Raises HttpProblem 404."""
        job = self._store.get(f"{TASK_PREFIX}{task}")
        if job is None or (kinds and task_name(job) not in kinds):
            raise HttpProblem(404, "no_such_task", "there is no such task", "they are kept for a day")
        return job

    def shown(self, task: str, link: Link, kinds: Sequence[str] = ()) -> dict[str, Any]:
        """The JSON object of a task. Raises HttpProblem."""
        return self._json(self.row(task, kinds), link)

    def listed(self, link: Link, kinds: Sequence[str] = ()) -> dict[str, Any]:
        """All tasks of these kinds, or of every kind, the newest first."""
        rows = [job for job in self._store.all() if job.song.startswith(TASK_PREFIX)]
        chosen = [job for job in rows if not kinds or task_name(job) in kinds]
        chosen.sort(key=lambda job: job.created, reverse=True)
        return {"object": "list", "data": [self._json(job, link) for job in chosen]}

    def cancel(self, task: str, kinds: Sequence[str] = ()) -> None:
        """Take a task out of its queue, or stop it at its next event. Raises HttpProblem."""
        job = self.row(task, kinds)
        if job.state in ACTIVE:
            self._service.cancel_row(job)

    def delete(self, task: str, kinds: Sequence[str] = ()) -> None:
        """Forget a task that is not in work, with its files. Raises HttpProblem."""
        job = self.row(task, kinds)
        if job.state in ACTIVE:
            raise HttpProblem(409, "in_work", "the task is in the queue", "cancel it first")
        self._remove(job)

    def file(self, task: str, name: str) -> Path:
        """A file that a task has made. Raises HttpProblem 404."""
        found = {path.name: path for path in self._files(self.row(task))}
        if name not in found:
            raise HttpProblem(404, "no_such_file", "there is no such file", "see the task's files")
        return found[name]

    def _files(self, job: Job) -> list[Path]:
        folder = self._service.settings.uploads / job.uploads / RESULTS
        if job.state != "succeeded" or not job.uploads or not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if path.suffix in FILE_TYPES and path.is_file())

    def _json(self, job: Job, link: Link) -> dict[str, Any]:
        name = job.song.removeprefix(TASK_PREFIX)
        where, state = f"v1/tasks/{name}", job.state
        waiting = [each.song for each in self._store.waiting(job.queue)]
        queue = {"position": waiting.index(job.song)} if job.song in waiting else None
        facts = {
            "id": name,
            "object": "task",
            "task": task_name(job),
            "status": state,
            "created_at": time_text(job.created),
            "started_at": time_text(job.started),
            "completed_at": time_text(job.completed),
            "progress": self._service.queues.progress_of(job.song),
            "warnings": json.loads(job.warnings),
            "error": json.loads(job.error) if job.error else None,
            "result": json.loads(job.result) if job.result else None,
            "files": [
                {
                    "name": path.name,
                    "bytes": path.stat().st_size,
                    "url": link(f"{where}/files/{path.name}"),
                }
                for path in self._files(job)
            ],
            "queue": queue,
            "urls": {"get": where, **{each: f"{where}/{each}" for each in ("events", "cancel")}},
        }
        return without_folder(facts, self._service.settings.songs)
