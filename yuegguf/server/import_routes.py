"""The route of songs of other tools, and of two stems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from yuegguf.exchange.imported import ImportFacts
from yuegguf.exchange.importing import StemFiles, check_source
from yuegguf.models.resolve import resolve
from yuegguf.pipeline.create import planned
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.prepared import prepare
from yuegguf.server.new_tasks import new_task
from yuegguf.server.problems import HttpProblem
from yuegguf.server.requests import FormBody, Key, TheLink, TheService, body_of, form_body
from yuegguf.server.service import Service
from yuegguf.server.song_input import read_body
from yuegguf.server.song_parsing import chosen_models
from yuegguf.server.task_input import ImportInput
from yuegguf.server.tasks import ImportTask
from yuegguf.server.unpacking import unpack
from yuegguf.song.lookup import new_song_path

router = APIRouter(prefix="/v1")
PAIR, BOTH_STEMS = ("vtrack", "itrack"), ("vocal_stem", "inst_stem")
SOURCES = ({"project"}, {"zip"}, set(PAIR), set(BOTH_STEMS))
"""Names of the parts that are one source."""
PARTS = ("project", "zip", *PAIR, *BOTH_STEMS)


@router.post("/import", status_code=202, openapi_extra=body_of("ImportInput", *PARTS, plain=False))
def import_song(
    service: TheService, link: TheLink, body: Annotated[FormBody, form_body(*PARTS)], key: Key = None
) -> JSONResponse:
    """Make a song of a YuE-UI project, a pair of .npy files, a zip with either, or two stems, by a task.

    The task's result names the song.
    """
    asked = read_body(body.json, ImportInput)
    warnings: list[str] = []
    return new_task(
        service, link, body, body.idempotency(key, "import"),
        lambda files: _checked(service, asked, files, warnings), warnings=warnings,
    )  # fmt: skip


def _checked(
    service: Service, asked: ImportInput, files: Mapping[str, Path], warnings: list[str]
) -> ImportTask:
    """The task for uploaded files, once all is checked that can be. Raises YueError."""
    facts = ImportFacts(asked.genre, asked.lyrics, asked.at, asked.output())
    paths, stems = _source(files, asked)
    source = StemFiles(paths[0], paths[1], asked.start, asked.take) if stems else paths
    song = check_source(source, facts)
    models = resolve(chosen_models(asked.model, asked.quant, service.settings.choice))
    job = SongJob(prepare(song.request), models, service.settings.songs, asked.name, service.settings.compute)
    planned(job)
    warnings.extend(song.notices)
    folder = next(iter(files.values())).parent.parent
    return ImportTask(
        song=new_song_path(job.parent, asked.name or song.request.genre.strip()).name,
        files=tuple(path.relative_to(folder).as_posix() for path in paths),
        stems=stems, start=asked.start, seconds=asked.take, facts=facts,
        name=asked.name, model=asked.model, quant=asked.quant, finish=asked.finish,
    )  # fmt: skip


def _source(files: Mapping[str, Path], asked: ImportInput) -> tuple[Sequence[Path], bool]:
    """The files of one source, and whether they are stems. Raises HttpProblem, RequestError, DamagedFile."""
    if set(files) not in SOURCES:
        raise HttpProblem(
            422, "bad_request", "the parts are not those of one song",
            "send a project, a zip, vtrack and itrack, or vocal_stem and inst_stem",
        )  # fmt: skip
    stems = BOTH_STEMS[0] in files
    for field in ("start", "take"):
        if getattr(asked, field) and not stems:
            raise HttpProblem(422, "bad_request", f"{field} has no effect without stems", "leave it out")
    if "zip" in files:
        return unpack(files["zip"], files["zip"].parent / "unpacked"), False
    return [files[part] for part in (*BOTH_STEMS, *PAIR, "project") if part in files], stems
