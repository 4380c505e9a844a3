"""Places where songs are generated, as the nodes see them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .running import Link
from .wanted import ExtendInputs, SongInputs

DONE_TRACKS = ("mix", "vocals", "instrumental")
DRAFT_TRACKS = ("draft", "draft-vocals", "draft-instrumental")
FORMATS = ("wav", "flac", "opus", "m4a", "mp3")
"""Formats of a song's files, the best first."""


@dataclass(frozen=True)
class SongAudio:
    """A song's id, and its audio files: mix, vocals, instrumental."""

    song: str
    files: tuple[bytes, ...]


@dataclass(frozen=True)
class SectionReport:
    """A section's words against its time."""

    label: str
    seconds: float
    syllables: int
    verdict: str
    advice: str


class Library(Protocol):
    """A place with songs. All methods raise an error with a sentence for the user."""

    def identity(self, model: str, quant: str, reference: str | None) -> object:
        """Identity of the models, as a JSON value; another file has another one.

        `reference` is the name of a saved voice, "" for recordings, None without a reference.
        """

    def identities(self, model: str, quant: str) -> object:
        """Identity of the models for a song of which it is not known yet whether it has a reference.

        A problem with some of them stands in their place.
        """

    def song(self, inputs: SongInputs, link: Link) -> SongAudio:
        """The song of these inputs: generated, gone on with, or there already."""

    def refine(self, song: str, link: Link) -> SongAudio:
        """A drafted song, taken to its end."""

    def extend(self, song: str, inputs: ExtendInputs, link: Link) -> SongAudio:
        """The song that goes on from another one: generated, gone on with, or there already."""

    def check(self, inputs: SongInputs) -> tuple[list[SectionReport], list[str]]:
        """Each section's words against its time, and warnings."""


def check_tracks(song: str, output: Mapping[str, Any] | None) -> None:
    """Check that a song is written with both tracks, by the `output` of its request. Raises RuntimeError."""
    if output and not output.get("stems", True):
        raise _without_tracks(song)


def track_files(song: str, names: Collection[str], draft: bool) -> list[str]:
    """Names of mix, vocals and instrumental among a song's files. Raises RuntimeError without them."""
    tracks = DRAFT_TRACKS if draft else DONE_TRACKS
    kinds = [kind for kind in FORMATS if all(f"{track}.{kind}" in names for track in tracks)]
    if not kinds:
        raise _without_tracks(song)
    return [f"{track}.{kinds[0]}" for track in tracks]


def _without_tracks(song: str) -> RuntimeError:
    return RuntimeError(
        f"{song} has no files of its vocals and instrumental, which the nodes give; write them, once it is "
        "finished, with: yuegguf render SONG --stems joined"
    )
