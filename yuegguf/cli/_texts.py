"""Options that are a text, a file of one, or stdin."""

from __future__ import annotations

import difflib
import os
import re
import sys
from contextlib import nullcontext
from pathlib import Path

import click

from yuegguf.cli._console import Console
from yuegguf.errors import RequestError
from yuegguf.files.kinds import HEAD_BYTES, check_text
from yuegguf.files.reading import open_plain_file_or_pipe
from yuegguf.request.text_decoding import decode_text
from yuegguf.request.valid_text import MAX_LYRICS_BYTES, MAX_LYRICS_CHARS

_FILE_NAME = re.compile(
    r"[^\n]{0,250}\.(?:txt|text|lrc|srt|vtt|md|rtf|docx?|odt|pdf|json|ya?ml|csv|html?)"
    r"|(?:\.{1,2}|~)?[/\\]\S{1,250}",
    re.IGNORECASE,
)


def read_text(value: str, noun: str) -> str:
    """Text of an option that is a file name or "-" for stdin; an inferred encoding is noted.

    Raises RequestError, DamagedFile for a file of another kind.
    """
    try:
        with open_plain_file_or_pipe(Path(value)) if value != "-" else nullcontext(sys.stdin.buffer) as file:
            data = file.read(MAX_LYRICS_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"the {noun} file {value} cannot be read ({reason})", "check the name") from error
    if len(data) > MAX_LYRICS_BYTES:
        raise RequestError(
            f"the {noun} file {value} is too large", f"use at most {MAX_LYRICS_CHARS:,} characters"
        )
    check_text(Path(value), data[:HEAD_BYTES])
    decoded = decode_text(data, noun, "stdin" if value == "-" else value)
    context = click.get_current_context(silent=True)
    console = context.find_object(Console) if context and decoded.notice else None
    if console:
        console.warn(decoded.notice)
    return decoded.text


def text_or_file(value: str, noun: str) -> str:
    """An option that is text itself, a file's name, or "-".

    Raises RequestError for a text that looks like the name of a file that is not there.
    """
    if value == "-" or os.path.isfile(value):  # unlike Path.is_file, never raises
        return read_text(value, noun)
    if _FILE_NAME.fullmatch(value.strip()):
        if os.path.isdir(value.strip()):
            raise RequestError(f"the {noun} {value.strip()!r} is a folder", "pass a file, or the text itself")
        raise RequestError(
            f"the {noun} {value.strip()!r} looks like the name of a file, and there is no such file",
            _suggestion(value.strip()),
        )
    return value


def _suggestion(name: str) -> str:
    """The likeliest file beside a name that is none."""
    folder, wanted = os.path.split(name)
    try:
        names = [entry.name for entry in os.scandir(folder or ".") if entry.is_file()]
    except (OSError, ValueError):
        names = []
    close = difflib.get_close_matches(wanted, names, 1)
    return f"is it {os.path.join(folder, close[0])}?" if close else "check the name, or pass the text itself"
