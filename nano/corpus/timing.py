"""Length of a text: a function of the text, the tempo and the genre alone.

A syllable takes a slot: an eighth, or a quarter where the tempo is too quick for the genre
(`Genre.fastest_eighth`). A line starts on a bar and takes as many whole bars as its syllables need; its
last syllable is held for a second slot if the bar has room. A section ends on the bar. A section without
syllables lasts `INSTRUMENTAL_BARS`.
"""

from __future__ import annotations

from dataclasses import dataclass

from nano.corpus.genres import GENRES
from nano.corpus.spelling import Syllable, lines
from nano.corpus.theory import BEATS_PER_BAR

INSTRUMENTAL_BARS = 2


@dataclass(frozen=True)
class Slot:
    """One syllable in time, in frames from the start of its section."""

    frame: int
    frames: int
    syllable: Syllable
    last: bool
    """True for the last of its line."""


def slot_frames(genre: str, beat_frames: int) -> int:
    """Frames of a syllable: half a beat or a whole one."""
    return beat_frames // 2 if beat_frames >= GENRES[genre].fastest_eighth else beat_frames


def section_slots(body: str, genre: str, beat_frames: int) -> tuple[list[Slot], int]:
    """The syllables of a section's lines and its number of bars."""
    step, bar = slot_frames(genre, beat_frames), BEATS_PER_BAR * beat_frames
    slots: list[Slot] = []
    bars = 0
    for line in lines(body):
        taken = -(-len(line) * step // bar)
        room = taken * bar - len(line) * step
        for i, syllable in enumerate(line):
            last = i == len(line) - 1
            held = 2 * step if last and room >= step else step
            slots.append(Slot(bars * bar + i * step, held, syllable, last))
        bars += taken
    return slots, bars or INSTRUMENTAL_BARS


def section_bars(body: str, genre: str, beat_frames: int) -> int:
    """Bars of a section with that text."""
    return section_slots(body, genre, beat_frames)[1]


def section_frames(body: str, genre: str, beat_frames: int) -> int:
    """Frames of a section with that text."""
    return section_bars(body, genre, beat_frames) * BEATS_PER_BAR * beat_frames
