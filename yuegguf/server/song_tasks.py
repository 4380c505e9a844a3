"""Operations on songs that a worker does as tasks, apart from HTTP."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.codec.protocol import Track
from yuegguf.exchange.zip_bundle import BEST_FIRST
from yuegguf.files.atomic import storage_errors
from yuegguf.pipeline.rendering import check_rendering
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.problems import HttpProblem
from yuegguf.server.service import Service
from yuegguf.server.song_input import STEMS, StemsInput
from yuegguf.server.song_parsing import parse_song
from yuegguf.server.task_input import RenderInput
from yuegguf.server.tasks import RenderTask, task_json
from yuegguf.song.record import SONG_AUDIO


@contextmanager
def uploaded_stem(service: Service, song: str, track: Track) -> Iterator[tuple[str, dict[str, Path]]]:
    """A folder among the uploads with a copy of a song's stem, by the name of its part.

    It is removed where the block fails. Raises YueError.
    """
    opened = service.shelf.open(song)
    stem = SONG_AUDIO[1 if track == "vocal" else 2]
    there = [opened.path / name for name in opened.record.files if Path(name).stem == stem]
    if not there:
        raise HttpProblem(
            422, "no_such_file", f"the song has no file of its {track} track", "render it with its stems"
        )
    file = min(there, key=lambda path: BEST_FIRST.index(path.suffix))
    name = secrets.token_hex(8)
    folder = service.settings.uploads / name
    part = next(part for part, each in STEMS.items() if each == track)
    try:
        with storage_errors(folder):
            folder.mkdir(parents=True)
            shutil.copyfile(file, folder / f"{part}{file.suffix}")
        yield name, {part: folder / f"{part}{file.suffix}"}
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def stems(service: Service, song: str, body: StemsInput, idempotency: Idempotency) -> str:
    """Queue a song to one track of another one, of which a copy is kept; its id. Raises YueError."""
    if (known := service.known(idempotency)) is not None:
        return known
    asked = body.song(service.shelf.open(song).request)
    with uploaded_stem(service, song, body.keep) as (name, files):
        return service.create(parse_song(asked, service.settings.choice, files), idempotency, name)


def render(service: Service, song: str, body: RenderInput) -> None:
    """Queue the writing of a refined song's files anew, once all that can be checked is. Raises YueError."""
    with service.creating:
        service.check_idle(song)
        opened = service.shelf.open(song)
        output = body.output(opened.request.output)
        check_rendering(opened, output, None, body.force)
        service.begin_task(song, task_json(RenderTask(output=output, force=body.force)), "audio")
