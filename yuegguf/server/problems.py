"""Errors as HTTP answers: the sentences of the command line, with a status and a code."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from yuegguf.errors import (
    DamagedFile,
    DownloadError,
    FolderBusy,
    Interrupted,
    ModelNotFound,
    NotEnoughMemory,
    RequestError,
    StorageError,
    YueError,
)
from yuegguf.models import registry

SENTENCES = frozenset({"message", "hint", "problem"})
"""Fields of an object that are sentences."""
STATUSES: dict[type[YueError], tuple[int, str]] = {
    ModelNotFound: (503, "model_not_found"),
    NotEnoughMemory: (507, "not_enough_memory"),
    RequestError: (422, "bad_request"),
    DamagedFile: (409, "damaged_file"),
    FolderBusy: (409, "in_work"),
    StorageError: (507, "storage"),
    DownloadError: (502, "download"),
    Interrupted: (409, "interrupted"),
}
"""Kind of error → HTTP status and code."""


class HttpProblem(YueError):
    """A request that is refused with an HTTP status of its own."""

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.status, self.code, self.headers = status, code, headers or {}


def status_of(error: YueError) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, HttpProblem) else _found(error)[0]


def error_json(error: YueError) -> dict[str, Any]:
    """A JSON object of an error, without its status."""
    code = error.code if isinstance(error, HttpProblem) else _found(error)[1]
    return {
        "message": error.message,
        "hint": error.hint,
        "type": type(error).__name__,
        "code": code,
        "exit_code": error.exit_code,
    }


def without_folder(facts: dict[str, Any], songs: Path) -> dict[str, Any]:
    """An object whose sentences, those of its error and its warnings too, are as `plain` makes them."""
    found = dict(facts)
    for name in SENTENCES & found.keys():
        if isinstance(found[name], str):
            found[name] = plain(found[name], songs)
    if isinstance(found.get("warnings"), list):
        found["warnings"] = [plain(sentence, songs) for sentence in found["warnings"]]
    if isinstance(found.get("error"), dict):
        found["error"] = without_folder(found["error"], songs)
    return found


def plain(sentence: str, songs: Path) -> str:
    """A sentence that names files without the folder of songs, that of uploads in it, and that of voices."""
    if os.sep not in sentence:
        return sentence
    for folder in {songs, Path(os.path.realpath(songs))}:
        inside = rf"{re.escape(str(folder))}(?:/\.uploads(?:/[0-9a-f]+)?)?"
        sentence = _without(sentence, inside, "the folder")
    with suppress(RequestError):  # there is no home folder, so none of voices
        sentence = _without(sentence, re.escape(str(registry.voices_dir())), "the folder of voices")
    return sentence


def _without(sentence: str, folder: str, words: str) -> str:
    """A sentence with names in the place of paths below a folder, and words in that of the folder itself."""
    return re.sub(rf"{folder}(?:(/)|(?![^\s,;:)]))", lambda match: "" if match[1] else words, sentence)


def _found(error: YueError) -> tuple[int, str]:
    for kind, answer in STATUSES.items():
        if isinstance(error, kind):
            return answer
    return 500, "failed"
