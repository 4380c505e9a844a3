"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, or JSON lines."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from yuegguf.cli._text import minutes, one_line
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import YueError
from yuegguf.measure.remaining import (
    PHASES,
    Course,
    RemainingTime,
    SongFacts,
    remember_course,
    remembered_course,
    song_facts,
)
from yuegguf.progress import Event
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder

TITLES = {"draft": "Draft", "refine": "Refine", "master": "Master", "convert": "Convert", "export": "Export"}
TITLES |= {"encode": "Encode", "download": "Download", "verify": "Verify", "copy": "Copy", "check": "Check"}
REDRAW_SECONDS = 0.2
JSON_SECONDS = 1.0
"""Least seconds between two JSON lines of a phase."""
FIRST_LINE_SECONDS, LINE_SECONDS = 5.0, 60.0
"""Without a terminal, a phase that takes longer has a line after so many seconds, then one every minute."""
BAR_WIDTH = 24


class ProgressDisplay:
    """Writer of progress to stderr as "auto" (a bar or lines), "json" or "off".

    `write` takes a text and whether a newline follows; it returns whether stderr took it.
    """

    def __init__(self, write: Callable[[str, bool], bool], mode: str = "auto") -> None:
        self.mode = mode
        self._write = write
        self._phases: tuple[str, ...] = PHASES
        self._estimate = RemainingTime()
        self._facts: SongFacts | None = None
        self._phase, self._phase_begun, self._next = "", 0.0, 0.0
        self._drawn = False

    def begin(self, song: SongFolder, takes: int = 1, *, draft_only: bool = False) -> None:
        """Expect the course of a song, as it was with the song before of the same kind."""
        self._phases = PHASES[:1] if draft_only else PHASES
        course: Course | None = None
        self._facts = None
        with suppress(YueError):  # without a home folder nothing is remembered
            self._facts = song_facts(song, takes)
            course = remembered_course(self._facts)
        self._restart(course)

    def end(self, songs: Sequence[Song]) -> None:
        """Remember the course of the song, or of the takes, that were begun and are done now."""
        frames = sum(round(FRAME_RATE * song.seconds) for song in songs)
        if self._facts is not None and frames:
            with suppress(YueError):
                remember_course(self._estimate.course(frames), self._facts)
        self._facts = None

    def _restart(self, course: Course | None) -> None:
        kept = self._facts.kept if self._facts else (0, 0)
        self._estimate = RemainingTime(course, self._phases, kept)
        self._phase = ""

    def show(self, event: Event, quiet: bool) -> None:
        """Show an event, in the form of the mode."""
        now = time.monotonic()
        if event.phase not in self._phases:
            self._phases = (event.phase,)
            self._restart(None)
        if event.phase != self._phase:
            self._phase, self._phase_begun, self._next = event.phase, now, 0.0
        self._estimate.update(event, now)
        if quiet or self.mode == "off":
            return
        if self.mode == "json":
            self._show_json(event, now)
        elif sys.stderr is not None and sys.stderr.isatty():
            self._draw(event, now)
        else:
            self._show_line(event, now)

    def _show_json(self, event: Event, now: float) -> None:
        if now < self._next and event.done < event.total:
            return
        self._next = now + JSON_SECONDS
        left = self._estimate.left
        facts = {
            "phase": event.phase,
            "done": event.done,
            "total": event.total,
            "note": event.note,
            "share": round(self._estimate.share, 4),
            "elapsed": round(self._estimate.elapsed, 1),
            "left": None if left is None else round(left, 1),
        }
        self._write(json.dumps({"progress": facts}), True)

    def _show_line(self, event: Event, now: float) -> None:
        if not self._next:
            self._next = self._phase_begun + FIRST_LINE_SECONDS
        if now < self._next:
            return
        self._next = now + LINE_SECONDS
        self._write(one_line(f"{self._words(event)}"), True)

    def _draw(self, event: Event, now: float) -> None:
        if now < self._next and event.done < event.total:
            return
        self._next, self._drawn = now + REDRAW_SECONDS, True
        filled = round(BAR_WIDTH * self._estimate.share)
        bar = "█" * filled + "░" * (BAR_WIDTH - filled)
        line = one_line(self._words(event, bar))
        self._write(f"\r\033[K{line[: _width()]}", False)

    def _words(self, event: Event, bar: str = "") -> str:
        """Phase, share, elapsed time, time left and note."""
        estimate = self._estimate
        title = f"{TITLES.get(event.phase, event.phase)} {bar}".rstrip()
        parts = [f"{title} {estimate.share:4.0%}", minutes(estimate.elapsed), time_left(estimate.left)]
        return " · ".join([*parts, *([event.note] if event.note else [])])

    def clear(self) -> None:
        """Erase the bar, if one was drawn."""
        if self._drawn:
            self._write("\r\033[K", False)
            self._drawn = False


def time_left(seconds: float | None) -> str:
    """Remaining time in words."""
    return "estimating" if seconds is None else f"about {minutes(seconds)} left"


def _width() -> int:
    return shutil.get_terminal_size().columns - 1
