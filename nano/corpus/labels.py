"""Labels of a song; times are frames of 20 ms from its start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SyllableLabel:
    """One sung syllable."""

    onset: int
    vowel_start: int
    vowel_end: int
    phonemes: tuple[str, ...]
    vowel: str
    pitch: int
    """MIDI number."""


@dataclass(frozen=True)
class ChordLabel:
    """A chord and where it begins."""

    frame: int
    name: str


@dataclass(frozen=True)
class SectionLabel:
    """One section."""

    label: str
    body: str
    start: int
    frames: int
    bars: int
    syllables: tuple[SyllableLabel, ...]
    """Empty where nobody sings."""
    chords: tuple[ChordLabel, ...]


@dataclass(frozen=True)
class Labels:
    """The whole song."""

    genre: str
    mood: str
    gender: str
    tags: str
    bpm: float
    key: str
    mode: str
    frames: int
    beats: tuple[int, ...]
    sections: tuple[SectionLabel, ...]
