"""Errors as HTTP answers: the sentences of the command line, with a status and a code."""

from __future__ import annotations

import re
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


def without_folder(facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An error's JSON object whose sentences name files without this folder, or that of uploads in it."""
    above = re.compile(rf"{re.escape(str(folder))}(?:/\.uploads(?:/[0-9a-f]+)?)?(?:(/)|(?![^\s,;:)]))")

    def shown(match: re.Match[str]) -> str:
        return "" if match[1] else "the folder"

    texts = {name: above.sub(shown, facts[name]) for name in ("message", "hint") if facts.get(name)}
    return {**facts, **texts}


def _found(error: YueError) -> tuple[int, str]:
    for kind, answer in STATUSES.items():
        if isinstance(error, kind):
            return answer
    return 500, "failed"
