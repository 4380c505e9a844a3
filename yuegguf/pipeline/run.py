"""Work on a song folder that is there, with the models and the plan that it was started with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from yuegguf.errors import DamagedFile, YueError
from yuegguf.models.resolve import Models
from yuegguf.pipeline import phases, preflight
from yuegguf.pipeline.engines import engine_factory, find_devices, stopping
from yuegguf.pipeline.song_models import check_same
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import ComputeOptions, Devices, check_threads, most_threads
from yuegguf.planning.plan import Plan, revise_plan
from yuegguf.progress import Event, Progress
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder
from yuegguf.song.markers import repaired_song
from yuegguf.song.state import where


def run_song(
    folder: SongFolder,
    models: Models,
    options: ComputeOptions,
    progress: Progress,
    stop: threading.Event | None,
    *,
    early: Callable[[PreviewOptions], PreviewOptions] = lambda before: before,
) -> Song:
    """Work on a song folder until it is done; `early` changes what is written before it is finished.

    Nothing in it changes before it is claimed and everything is checked. Raises YueError, with the folder in
    it.
    """
    try:
        if where(folder) == "done" and early(folder.early) == folder.early:
            return repaired_song(folder)
        with folder.claimed():
            check_same(folder, models)
            plan = note_plan(folder, models, options, early(folder.early), progress)
            parts = engine_factory(models, plan, options, stop or threading.Event())
            return phases.work(folder, plan, parts, stopping(progress, stop))
    except YueError as error:
        error.folder = folder.path
        raise


def note_plan(
    folder: SongFolder, models: Models, options: ComputeOptions, early: PreviewOptions, progress: Progress
) -> Plan:
    """Decide how a claimed song goes on, with what the user now says, and write it into song.json.

    Raises YueError; song.json is not changed then.
    """
    devices, before = Devices(hardware.physical_cores(), hardware.available_memory()), folder.record.plan
    check_threads(options.threads, devices.cores)
    if before is None:
        raise DamagedFile(f"{folder.path} does not say how it is computed", "start the song again")
    if options.threads is None and before.threads > most_threads(devices.cores):
        words = (
            f"begun with {before.threads} threads, too many for this machine, goes on with {devices.cores}"
        )
        progress(Event("draft", 0, 1, warning=f"the song, {words}; that may change its last bits"))
        options = replace(options, threads=devices.cores)
    if options.gpu is not None or options.gpu_layers is not None:
        devices = find_devices(options)
    headers = preflight.read_models(models, bool(early.preview_seconds))
    phase = where(SongFolder(folder.path, folder.record.changed(early=early)))
    plan = revise_plan(before, folder.song, headers.facts, options, devices, phase=phase)
    if (plan, early) != (before, folder.early):
        folder.advance(folder.state, plan=plan, early=early)
    return plan
