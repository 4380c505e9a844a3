"""Output of the command line: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from yuegguf.cli._text import harmless, one_line
from yuegguf.errors import Interrupted, StorageError, YueError
from yuegguf.progress import Event

if TYPE_CHECKING:
    from yuegguf.cli._progress import ProgressDisplay
    from yuegguf.request.song_request import Song


class Console:
    """Writer of results, notes, errors and progress, as text or as JSON."""

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.progress_mode = "auto"
        """Form of progress: "auto", "json" or "off"."""
        self._warned: set[str] = set()

    @cached_property
    def display(self) -> ProgressDisplay:
        """Display of progress, imported when it is first needed."""
        from yuegguf.cli._progress import ProgressDisplay

        return ProgressDisplay(_talk, self.progress_mode)

    def result(self, data: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Write the outcome: one JSON object, or lines of text. Raises StorageError where stdout fails."""
        if not (self.as_json or lines):
            return
        text = json.dumps(data, ensure_ascii=False) if self.as_json else "\n".join(lines)
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:  # the name of a file that is not UTF-8, or a terminal that is not
            escaped = text.encode(encoding, errors="backslashreplace").decode(encoding)
            text = json.dumps(data) if self.as_json else escaped
        try:
            click.echo(harmless(text))
        except OSError as error:
            raise unwritten(error) from error

    def say(self, text: str) -> None:
        """Write a line for information; not with -q."""
        if not self.quiet:
            self._clear()
            _talk(one_line(text))

    def warn(self, text: str, *, again: bool = False) -> None:
        """Write a note that matters, even with -q; a note that was written already only with `again`."""
        if text in self._warned and not again:
            return
        self._warned.add(text)
        self._clear()
        _talk(one_line(f"note: {text}"))

    def error(self, error: YueError) -> None:
        """One line: what is wrong and what to do next; on stdout where stderr cannot be written."""
        self._clear()
        prefix = "" if isinstance(error, Interrupted) else "error: "  # the user asked for a stop
        line = harmless(f"{prefix}{' '.join(str(error).split())}")
        written = _talk(line)
        facts = {"error": {"message": error.message, "hint": error.hint, "code": error.exit_code}}
        if self.as_json or not written:
            with suppress(OSError):
                click.echo(harmless(json.dumps(facts)) if self.as_json else line)

    def _clear(self) -> None:
        if "display" in self.__dict__:  # else nothing was drawn
            self.display.clear()

    def progress(self, event: Event) -> None:
        """Show progress, not with -q. A warning is always written."""
        if event.warning:
            self.warn(event.warning)
            return
        self.display.show(event, self.quiet)

    def done(self, songs: Sequence[Song] = ()) -> None:
        """Erase the progress line, and remember the course of finished songs."""
        self._clear()
        if songs:
            self.display.end(songs)


def _talk(text: str, newline: bool = True) -> bool:
    """Write to stderr; returns whether it was written, since a closed stderr must not stop a song."""
    try:
        click.echo(text, err=True, nl=newline)
    except (OSError, ValueError):
        return False
    return sys.stderr is not None


def unwritten(error: OSError) -> StorageError:
    """The sentence for a result that stdout did not take."""
    return StorageError(
        f"the result could not be written to stdout ({error.strerror or error})",
        "what was made is kept; send stdout to a file or a pipe that takes it",
    )


def replace_unencodable() -> None:
    """Let the standard streams replace characters that a terminal other than UTF-8 cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def settle() -> None:
    """Give up what a standard stream still holds and cannot write, or Python complains of it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            stream.flush()
