"""Sections of a song with their times, words and faults, as far as they are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import YueError
from yuegguf.song.folder import SongFolder
from yuegguf.song.state import finished_sections, where


def timeline_of(folder: Path) -> list[dict[str, Any]]:
    """The sections of a song in a folder; `start` and `seconds` are None before its draft is done.

    `limit` is the most seconds that a section may have. A damaged song has none.
    """
    try:
        song = SongFolder.open(folder)
        times = [] if where(song) == "draft" else finished_sections(song)
        planned = zip(song.song.sections, song.song.caps, strict=True)
        found: list[dict[str, Any]] = [
            {
                "label": section.label,
                "lines": section.body,
                "limit": cap / FRAME_RATE,
                "start": None,
                "seconds": None,
                "complete": None,
                "fault": "",
                "lost_lines": 0,
            }
            for section, cap in planned
        ]
        for entry, each in zip(found, times, strict=False):
            entry |= {
                "start": each.start,
                "seconds": each.seconds,
                "complete": each.complete,
                "fault": each.fault,
                "lost_lines": each.lost_lines,
            }
    except YueError:
        return []
    return found
