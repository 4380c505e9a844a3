"""The command that goes on with work which an error or a signal ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from yuegguf.errors import Interrupted, YueError

ARGUMENTS = "yuegguf.arguments"
"""Key of the arguments of the command line in its context."""


def store_arguments(context: click.Context, arguments: Sequence[str]) -> None:
    """Store the arguments for `same_command_goes_on`."""
    context.meta[ARGUMENTS] = tuple(arguments)


@contextmanager
def same_command_goes_on() -> Iterator[None]:
    """Have errors in the middle of a song name the command that runs, with all its options, to go on with."""
    command = shlex.join(["yuegguf", *click.get_current_context().meta[ARGUMENTS]])
    try:
        yield
    except YueError as error:
        if error.folder is None:
            raise
        raise with_command(error, command) from error


def with_command(error: YueError, command: str) -> YueError:
    """The error with the command that goes on with the work, and the same exit code."""
    if isinstance(error, Interrupted):
        resumable: YueError = Interrupted(
            f"{error.message}, everything so far is kept", f"go on with: {command}"
        )
    else:
        resumable = YueError(
            error.message, f"{error.hint}; then go on with: {command}" if error.hint else command
        )
    resumable.exit_code = error.exit_code
    return resumable
