"""A song to generate, or takes of one: all that has to be decided before its folder is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from yuegguf.models.resolve import Models
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.prepared import PreparedSong
from yuegguf.request.preview_options import PreviewOptions


@dataclass(frozen=True)
class SongJob:
    """Job of generating a song: request, models, compute options and folder."""

    song: PreparedSong
    models: Models
    parent: Path
    """Folder in which the song's folder is made."""
    name: str | None = None
    """Title and beginning of the folder's name; None = from the tags."""
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    preview: PreviewOptions = field(default_factory=PreviewOptions)
    takes: int = 1
    """Takes that are drafted side by side."""
