"""Early output of an unfinished song: a draft after stage 1, a preview during it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from yuegguf.errors import RequestError
from yuegguf.files.field_types import take_types
from yuegguf.request.ranges import check_number

DraftFiles = Literal["", "mix", "stems"]
PREVIEW_SECONDS = 4.0
"""Default seconds of music between two updates of a preview."""
MAX_PREVIEW_SECONDS = 3600.0


@dataclass(frozen=True)
class PreviewOptions:
    """Draft and preview options, stored in song.json as "early"."""

    draft: DraftFiles = ""
    """Stop after stage 1 with a quick rendering of the mix, or of the mix and both tracks; "" = no draft."""
    preview_seconds: float = 0.0
    """Seconds of new music after which stage 1 extends `preview.wav`; 0 = no preview."""

    def __post_init__(self) -> None:
        take_types(self)
        if self.draft not in get_args(DraftFiles):
            raise RequestError(f"there is no draft of {self.draft!r}", "use mix or stems")
        check_number("preview seconds", self.preview_seconds, 0.5, MAX_PREVIEW_SECONDS, zero=True)


def without_draft(before: PreviewOptions) -> PreviewOptions:
    """The options of a song that goes on beyond its draft."""
    return replace(before, draft="")


def as_it_was(before: PreviewOptions) -> PreviewOptions:
    """The options, unchanged."""
    return before
