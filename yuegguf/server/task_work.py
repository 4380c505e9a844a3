"""Execution of tasks by the functions of the command line, and reports of their progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from yuegguf.api import files, songs
from yuegguf.errors import RequestError
from yuegguf.exchange.imported import create_imported_song
from yuegguf.exchange.importing import StemFiles, read_source
from yuegguf.measure.type_choice import default_type
from yuegguf.models.install import stage1_without_type
from yuegguf.models.inventory import verify
from yuegguf.models.resolve import ModelChoice, resolve, resolve_codec
from yuegguf.pipeline.preflight import located_reference
from yuegguf.pipeline.song_job import SongJob
from yuegguf.pipeline.voice import encode_voice
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event, Progress
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import Reference
from yuegguf.server.reports import Reports
from yuegguf.server.song_parsing import chosen_models
from yuegguf.server.tasks import (
    RESULTS,
    DecodeTask,
    EncodeTask,
    ImportTask,
    PullTask,
    RenderTask,
    Task,
    VerifyTask,
    VoiceTask,
)
from yuegguf.song.voices import Voice, load_voice, save_voice

RECORDED = ("mix", "vocal", "instrumental")
"""Fields of a reference that name recordings."""


@dataclass(frozen=True)
class TaskMachine:
    """Compute options and models that tasks use."""

    compute: ComputeOptions
    choice: ModelChoice = field(default_factory=ModelChoice)
    """Models where a task does not name its own."""
    songs: Path = Path("songs")
    """Folder of songs."""


def run_task(task: Task, folder: Path, machine: TaskMachine, progress: Progress) -> dict[str, Any]:
    """Do a task; `folder` is that of its song, or the task's own. Returns what its row keeps as its result.

    Raises YueError; Interrupted where `progress` does.
    """
    match task:
        case RenderTask():
            songs.render(folder, task.output, compute=machine.compute, force=task.force, progress=progress)
            return {}
        case EncodeTask():
            return _encode(task, folder, machine, progress)
        case DecodeTask():
            return _decode(task, folder, machine, progress)
        case VoiceTask():
            return _save_voice(task, folder, machine, progress)
        case ImportTask():
            return _import(task, folder, machine, progress)
        case PullTask():
            return _pull(task, machine.choice.root, progress)
        case VerifyTask():
            rows = verify(task.names, machine.choice.root, progress)
            return {"ok": all(row["ok"] for row in rows), "files": [_named(row) for row in rows]}


def _encode(task: EncodeTask, folder: Path, machine: TaskMachine, progress: Progress) -> dict[str, Any]:
    (made,) = files.encode(
        folder / task.file, folder / RESULTS, machine.choice, task.options,
        compute=machine.compute, force=True, progress=progress,
    )  # fmt: skip
    return {"codebooks": made.codebooks, "frames": made.frames}


def _decode(task: DecodeTask, folder: Path, machine: TaskMachine, progress: Progress) -> dict[str, Any]:
    made = files.decode(
        [folder / name for name in task.files], folder / RESULTS, machine.choice, task.output,
        compute=machine.compute, force=True, progress=progress,
    )  # fmt: skip
    return {"seconds": made.seconds}


def _save_voice(task: VoiceTask, folder: Path, machine: TaskMachine, progress: Progress) -> dict[str, Any]:
    codec, located = resolve_codec(machine.choice), located_reference(in_folder(task.reference, folder))
    voice = encode_voice(task.name, located, codec, machine.compute, progress)
    if task.replace or not _is_saved(voice):  # a worker that was killed may have saved it
        save_voice(voice, replace=task.replace)
    return {"voice": voice.to_json()}


def _import(task: ImportTask, folder: Path, machine: TaskMachine, progress: Progress) -> dict[str, Any]:
    path = machine.songs / task.song
    if not path.exists():  # a worker that was killed may have made it
        models = resolve(chosen_models(task.model, task.quant, machine.choice))
        paths = [folder / name for name in task.files]
        source = StemFiles(paths[0], paths[1], task.start, task.seconds) if task.stems else paths
        song = read_source(source, task.facts, models.codec, machine.compute, progress)
        job = SongJob(prepare(song.request), models, machine.songs, task.name, machine.compute)
        create_imported_song(song, job, path)
    return {"song": task.song, "generate": task.finish}


def _pull(task: PullTask, root: Path, progress: Progress) -> dict[str, Any]:
    def note(text: str) -> None:
        progress(Event("download", 0, 1, warning=text))

    quant = task.quant
    if not (quant or task.options.from_gguf):
        quant = default_type(stage1_without_type(task.names, task.set), root, lambda _text: None, note)
    pulled = files.pull(task.names, root, task.options, set_name=task.set, quant=quant, progress=progress)
    return {"files": [_named({**asdict(each), "file": str(each.file)}) for each in pulled]}


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the name of its file in the place of this machine's path."""
    return {**row, "file": Path(row["file"]).name}


def _is_saved(voice: Voice) -> bool:
    with suppress(RequestError):
        return np.array_equal(load_voice(voice.name).codes, voice.codes)
    return False


def in_folder(reference: Reference, folder: Path) -> Reference:
    """A reference whose recordings are names in a folder, with their paths."""
    names = {part: getattr(reference, part) for part in RECORDED}
    paths: dict[str, Any] = {part: str(folder / name) for part, name in names.items() if name}
    return replace(reference, **paths)


class TaskProgress:
    """Progress of a task as messages to the server: warnings, and the reports that are due."""

    def __init__(self, send: Callable[[dict[str, Any]], None], check: Callable[[], None]) -> None:
        """`check` raises Interrupted once the task is to stop."""
        self._send, self._check = send, check
        self._reports, self._begun = Reports(), time.monotonic()

    def __call__(self, event: Event) -> None:
        """Report an event. Raises Interrupted once the task is to stop."""
        self._check()
        if event.warning:
            self._send({"event": "warning", "text": event.warning})
            return
        now = time.monotonic()
        if not self._reports.are_due(event, now):
            return
        facts = {
            "phase": event.phase,
            "phase_index": 1,
            "phases": 1,
            "done": round(event.done / event.total, 4) if event.total else 0.0,
            "note": event.note,
            "elapsed_seconds": round(now - self._begun, 1),
            "eta_seconds": None,
            "audio_seconds": None,
        }
        self._send({"event": "progress", "facts": facts})
