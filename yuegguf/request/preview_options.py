"""What can be heard of a song before it is finished: a draft after stage 1, a preview during it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from yuegguf.errors import RequestError
from yuegguf.request.ranges import check_number

DraftFiles = Literal["", "mix", "stems"]
PREVIEW_SECONDS = 4.0
"""Music between two writings of a preview, unless said otherwise."""
MAX_PREVIEW_SECONDS = 3600.0


@dataclass(frozen=True)
class PreviewOptions:
    """Kept in song.json as "early", so that a resume does what the song was started for."""

    draft: DraftFiles = ""
    """Stop after stage 1, with a quick rendering of the mix, or of the mix and both tracks."""
    preview_seconds: float = 0.0
    """Write on `preview.wav` during stage 1 whenever this much music is new; 0 = no preview."""

    def __post_init__(self) -> None:
        if self.draft not in get_args(DraftFiles):
            raise RequestError(f"there is no draft of {self.draft!r}", "use mix or stems")
        check_number("preview seconds", self.preview_seconds, 0.5, MAX_PREVIEW_SECONDS, zero=True)
