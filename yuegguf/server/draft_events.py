"""Events of one song, or take, while it is drafted: sections that are complete, and a preview that grew."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from yuegguf.audio.growing_wav import samples_in
from yuegguf.codec.protocol import CODEC_RATE, FRAME_RATE
from yuegguf.errors import YueError
from yuegguf.pipeline.draft_phase import drafted_caps
from yuegguf.progress import Event, Progress
from yuegguf.song.folder import SongFolder

Report = Callable[[str, dict[str, Any]], None]
"""Called with the kind of an event and its facts."""


class DraftEvents:
    """Reports sections and previews of a song beside its progress."""

    def __init__(self, folder: SongFolder, report: Report, take: int = 0) -> None:
        """`take` is the number of a take, from 1; 0 = a single song."""
        self._folder, self._report = folder, report
        self._about = {"take": take} if take else {}
        self._section, self._begun = 0, 0
        """Number of the section in work from 1, and the frame with which it began."""
        self._caps: list[int] | None = None
        """Most frames of each section that is drafted; known once one is."""
        self._bytes = 0

    def beside(self, progress: Progress) -> Progress:
        """`progress`, with these events before each of its own."""

        def report(event: Event) -> None:
            self.update(event)
            progress(event)

        return report

    def update(self, event: Event) -> None:
        """Take an event of the song."""
        if event.warning:
            return
        if event.phase == "draft":
            self._look_at_preview()
            if event.section:
                self._look_at_section(event)
        elif self._section:
            self.complete()

    def complete(self) -> None:
        """Report what the draft's end completed."""
        self._look_at_preview()
        if self._section and self._folder.state != "draft":
            with suppress(YueError):  # a damaged file is reported by the next phase
                _, frames = self._folder.load_stage1()
                for number in range(self._section, len(self._caps or ()) + 1):
                    self._report_section(number, int(frames[number - 1]))
            self._section = 0

    def _look_at_section(self, event: Event) -> None:
        if self._caps is None:
            self._caps = drafted_caps(self._folder)
        begun = event.total - sum(self._caps[event.section - 1 :])
        if 0 < self._section < event.section:
            self._report_section(self._section, begun - self._begun)
        self._section, self._begun = event.section, begun

    def _report_section(self, number: int, frames: int) -> None:
        label = self._folder.song.sections[number - 1].label
        facts = {"number": number, "label": label, "seconds": frames / FRAME_RATE}
        self._report("section", {**facts, **self._about})

    def _look_at_preview(self) -> None:
        path = self._folder.path / "preview.wav"
        size = _size(path)
        if size == self._bytes:
            return
        self._bytes = size
        if samples := samples_in(path):
            facts = {"name": path.name, "seconds": samples / CODEC_RATE, "bytes": size}
            self._report("preview", {**facts, **self._about})


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # there is none
        return 0
