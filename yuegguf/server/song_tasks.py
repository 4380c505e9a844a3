"""Operations on songs that a worker does as tasks, apart from HTTP."""

from __future__ import annotations

from yuegguf.pipeline.rendering import check_rendering
from yuegguf.server.service import Service
from yuegguf.server.task_input import RenderInput
from yuegguf.server.tasks import RenderTask, task_json


def render(service: Service, song: str, body: RenderInput) -> None:
    """Queue the writing of a refined song's files anew, once all that can be checked is. Raises YueError."""
    with service.creating:
        service.check_idle(song)
        opened = service.shelf.open(song)
        output = body.output(opened.request.output)
        check_rendering(opened, output, None, body.force)
        service.begin_task(song, task_json(RenderTask(output=output, force=body.force)), "audio")
