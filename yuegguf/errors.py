"""The error tree of yuegguf, and the exit code of each on the command line.

YueError                      1  any other failure
├── ModelNotFound             3  a model file is missing
│   └── NotInstalled          3  a published model is not installed
├── NotEnoughMemory           4  the plan does not fit this machine
├── RequestError              5  lyrics, tags or audio that cannot be used
├── DamagedFile               7  a checkpoint, model or song folder that is broken or of the wrong kind
├── EngineError               1  llama.cpp refused something
├── CodecError                1  ONNX Runtime refused something
├── StorageError              1  disk full, folder not writable
│   └── FolderBusy            1  another yuegguf works in the folder
├── DownloadError            75  the network or the hub failed; the same command resumes
└── Interrupted              75  stopped on request; the work so far is kept and can be resumed

Exit codes 0, 2 (usage), 6 (made, but a section is wrong after its retries, or lacks words with --strict)
and 130 (stopped at once) belong to the command line itself.
"""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path
from typing import Any

MAX_MESSAGE_CHARS = 960
"""Characters of a message, and of a hint; longer ones repeat what a file holds, and lose their middle."""
TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
"""Errors of a process that may open no more files."""


class YueError(Exception):
    """A failure with a message for the user and a hint of what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = _shortened(message), _shortened(hint)
        super().__init__(message)
        self.message = message
        """One sentence of what is wrong, without a full stop."""
        self.hint = hint
        """Next step for the user, or an empty string."""
        self.folder: Path | None = None
        """The song folder that holds the work so far, if there is one."""

    def __reduce__(self) -> tuple[Any, ...]:
        # a subclass may take other arguments than those that Exception would pass to it again
        return _bare, (type(self), self.args), self.__dict__

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def _bare(kind: type[YueError], args: tuple[Any, ...]) -> YueError:
    """An error without its attributes, which unpickling adds."""
    return kind.__new__(kind, *args)


def _shortened(text: str) -> str:
    half = MAX_MESSAGE_CHARS // 2
    return text if len(text) <= MAX_MESSAGE_CHARS else f"{text[:half]} … {text[-half:]}"


class ModelNotFound(YueError):
    """A model file that the job needs is not on this machine."""

    exit_code = 3


class NotInstalled(ModelNotFound):
    """A published model is not installed."""

    def __init__(self, message: str, hint: str, name: str) -> None:
        super().__init__(message, hint)
        self.name = name
        """Name for `pull`, with its type if one was asked for."""


class NotEnoughMemory(YueError):
    """The job would not fit into this machine's memory."""

    exit_code = 4


class RequestError(YueError):
    """The lyrics, tags, audio or options of a request cannot be used."""

    exit_code = 5


class DamagedFile(YueError):
    """A file is truncated, inconsistent, or of another kind than the one needed."""

    exit_code = 7


class EngineError(YueError):
    """The language-model engine failed."""


class CodecError(YueError):
    """The audio-codec engine failed."""


class StorageError(YueError):
    """A file could not be written: disk full, no permission, not a folder."""


class FolderBusy(StorageError):
    """Another process, or another part of this one, works in the folder."""


class DownloadError(YueError):
    """The network or the hub failed; what has arrived is kept, and the same command resumes."""

    exit_code = 75


class Interrupted(YueError):
    """The job was stopped on request; nothing finished is lost."""

    exit_code = 75


def argument(path: Path | str) -> str:
    """A path as one argument of a command, where a leading dash would make an option of it."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def quoted(path: Path | str) -> str:
    """A path as it is written in the command of a hint, for a shell."""
    return shlex.quote(argument(path))


def explained(caught: BaseException) -> YueError:
    """The YueError that says what any exception means to the user; a YueError is its own."""
    if is_too_many_open(caught):
        error = too_many_open_files()
        error.folder = caught.folder if isinstance(caught, YueError) else None
        return error
    if isinstance(caught, YueError):
        return caught
    if isinstance(caught, OSError):
        named = "something" if caught.filename is None else repr(os.fsdecode(caught.filename)[:80])
        return StorageError(
            f"the system refused {named} ({caught.strerror or caught})", "check the names and the disk"
        )
    if isinstance(caught, MemoryError):
        return NotEnoughMemory("the system gave no more memory", "end other programs, or lift the limit")
    kind = f"{type(caught).__name__}: {caught}"
    return YueError(
        f"this is a fault of yuegguf itself ({kind})", "set YUEGGUF_DEBUG=1 for details and report it"
    )


def is_too_many_open(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is that too many files are open."""
    seen = set[int]()  # an error may be among its own causes
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # C libraries pass on only the system's message
        if getattr(error, "errno", None) in TOO_MANY_OPEN or any(
            os.strerror(n) in str(error) for n in TOO_MANY_OPEN
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def too_many_open_files() -> StorageError:
    """The StorageError of a process that may open no more files."""
    return StorageError("too many files are open", "let a process open more, for example: ulimit -n 1024")
