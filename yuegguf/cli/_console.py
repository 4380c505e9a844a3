"""Output of the command line: results on stdout, notes and progress on stderr."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from yuegguf.errors import StorageError, YueError
from yuegguf.progress import Event

Shares = Mapping[str, tuple[float, float]]
SHARES: Shares = {"draft": (0.0, 0.55), "refine": (0.55, 0.95), "master": (0.95, 1.0)}
"""Begin and end of each phase as shares of the whole song's work; rough, and corrected as phases pass."""
DRAFT_SHARES: Shares = {"draft": (0.0, 1.0)}
"""Shares of a song that stops after its draft."""
WORDS = {"draft": "Draft", "refine": "Refine", "master": "Master", "convert": "Convert", "export": "Export"}
WORDS |= {"encode": "Encode", "download": "Download", "verify": "Verify", "copy": "Copy"}

UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters by which the name of a file or a song could move the cursor, hide text or reverse it."""


class Console:
    """Writer of results, notes, errors and progress, as text or as JSON."""

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._meter = Meter()

    def draft_only(self) -> None:
        """Count the draft as the whole work from now on."""
        self._meter = Meter(DRAFT_SHARES)

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
            self._meter.clear()
            _talk(one_line(text))

    def warn(self, text: str) -> None:
        """Write a note that matters, even with -q."""
        self._meter.clear()
        _talk(one_line(f"note: {text}"))

    def error(self, error: YueError) -> None:
        """One line: what is wrong and what to do next; on stdout where stderr cannot be written."""
        self._meter.clear()
        line = harmless(f"error: {' '.join(str(error).split())}")
        written = _talk(line)
        facts = {"error": {"message": error.message, "hint": error.hint, "code": error.exit_code}}
        if self.as_json or not written:
            with suppress(OSError):
                click.echo(harmless(json.dumps(facts)) if self.as_json else line)

    def progress(self, event: Event) -> None:
        """Draw one step on a terminal; silent elsewhere and with -q. A warning is always written."""
        if event.warning:
            self.warn(event.warning)
            return
        if not self.quiet and sys.stderr is not None and sys.stderr.isatty():
            self._meter.draw(event)

    def done(self) -> None:
        """Erase the progress line."""
        self._meter.clear()


class Meter:
    """One line: phase, bar, percent of the song, time left for all of it."""

    def __init__(self, shares: Shares = SHARES) -> None:
        self._shares = shares
        self._started: tuple[float, float] | None = None
        self._last = 0.0
        self._drawn = False

    def draw(self, event: Event) -> None:
        """Redraw at most five times a second."""
        now = time.monotonic()
        share = whole_share(event, self._shares)
        if self._started is None:
            self._started = (now, share)
        if now - self._last < 0.2 and event.done < event.total:
            return
        self._last, self._drawn = now, True
        bar = "█" * round(24 * share) + "░" * (24 - round(24 * share))
        left = time_left(now - self._started[0], share, self._started[1])
        note = f" · {event.note}" if event.note else ""
        line = one_line(f"{WORDS.get(event.phase, event.phase)} {bar} {share:4.0%} · {left}{note}")
        _talk(f"\r\033[K{line[: _width()]}", newline=False)

    def clear(self) -> None:
        """Erase the line, if one was drawn."""
        if self._drawn:
            _talk("\r\033[K", newline=False)
            self._drawn = False


def harmless(text: str) -> str:
    """Text whose control characters but newlines and tabs are escaped as in JSON; JSON stays the same."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str) -> str:
    """Harmless text with its newlines escaped too, so that nothing passes for a line of ours."""
    return harmless(text).replace("\n", "\\u000a")


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


def whole_share(event: Event, shares: Shares = SHARES) -> float:
    """Share of the whole work that is done, 0 to 1."""
    low, high = shares.get(event.phase, (0.0, 1.0))
    return low + (high - low) * min(1.0, event.done / event.total if event.total else 1.0)


def time_left(seconds: float, share: float, begun: float) -> str:
    """Remaining time in words, from the time that the share since `begun` took."""
    if share - begun < 0.005 or seconds < 2:
        return "estimating"
    left = round(seconds * (1 - share) / (share - begun))
    hours, minutes = left // 3600, left % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min left"
    return f"{minutes} min {left % 60:02d} s left" if minutes else f"{left} s left"


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns - 1


def minutes(seconds: float) -> str:
    """A duration in words: "8 s", "12 min", "2 h 10 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole // 60} h {whole % 60} min" if whole >= 60 else f"{whole} min"
