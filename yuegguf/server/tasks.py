"""Work of the queues besides generating songs: typed, and kept in its row as JSON.

A task may be killed at any moment and is done again from its beginning, with the same outcome. Files are
named without their folder, which is that of the task.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from yuegguf.exchange.encode_files import EncodeOptions
from yuegguf.exchange.imported import ImportFacts
from yuegguf.models.pull import PullOptions
from yuegguf.request.song_request import Output, Reference

TASK_PREFIX = ".task-"
"""Beginning of the row's name of a task that belongs to no song: no song folder's name begins with a dot."""
RESULTS = "results"
"""Folder of the files that a task makes, in its own."""


class RenderTask(Struct, frozen=True, kw_only=True, tag="render"):
    """Write a refined song's files anew."""

    output: Output
    force: bool = False


class EncodeTask(Struct, frozen=True, kw_only=True, tag="encode"):
    """Encode a recording to codes."""

    file: str
    options: EncodeOptions


class DecodeTask(Struct, frozen=True, kw_only=True, tag="decode"):
    """Make audio files of codes."""

    files: tuple[str, ...]
    output: Output


class VoiceTask(Struct, frozen=True, kw_only=True, tag="voice"):
    """Keep a recording's window as a voice."""

    name: str
    reference: Reference
    """Its recordings are names."""
    replace: bool


class ImportTask(Struct, frozen=True, kw_only=True, tag="import"):
    """Make a song folder of another tool's files, or of two stems."""

    song: str
    """Name of the folder, decided beforehand, so that the song is not made twice."""
    files: tuple[str, ...]
    """A project, a pair of tracks' codes, a folder with them, or both stems."""
    stems: bool
    start: float
    seconds: float | None
    facts: ImportFacts
    name: str | None
    model: str | None
    quant: str | None
    finish: bool
    """Whether the song is then queued, to be taken to its end."""


class PullTask(Struct, frozen=True, kw_only=True, tag="pull"):
    """Download, convert and install models."""

    names: tuple[str, ...]
    set: str | None
    quant: str | None
    options: PullOptions


class VerifyTask(Struct, frozen=True, kw_only=True, tag="verify"):
    """Compare installed models with what was installed."""

    names: tuple[str, ...] = ()
    """Empty = all."""


Task = RenderTask | EncodeTask | DecodeTask | VoiceTask | ImportTask | PullTask | VerifyTask


def task_json(task: Task) -> str:
    """A task as its row keeps it."""
    return msgspec.json.encode(task).decode()


def read_task(text: str) -> Task:
    """The task of a row."""
    task: Task = msgspec.json.decode(text, type=Task)
    return task
