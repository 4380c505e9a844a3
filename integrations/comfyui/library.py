"""Places where songs are generated, as the nodes see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .running import Link
from .wanted import ExtendInputs, SongInputs

DONE_FILES = ("mix.wav", "vocals.wav", "instrumental.wav")
DRAFT_FILES = ("draft.wav", "draft-vocals.wav", "draft-instrumental.wav")


@dataclass(frozen=True)
class SongAudio:
    """A song's id, and its WAV files: mix, vocals, instrumental."""

    song: str
    wavs: tuple[bytes, bytes, bytes]


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
