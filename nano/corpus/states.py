"""State of a stem in each frame, as one number below 1024: the meaning of a code of codebook 0.

X-Codec's first codebook is meant to carry the content and the others the sound. Here that is so by
construction: the codec is trained to choose, for a frame, the row whose number stands below.

| rows | a frame of |
|---|---|
| 0 | silence |
| vowel, twice | a vowel at a pitch: its first frame, its other frames |
| voiced consonant | a voiced consonant at a pitch |
| hiss | an unvoiced consonant |
| stroke | drums struck together, over a chord |
| held | a chord of a genre, no drum struck |
| lead | a note of the lead of a genre, no drum struck |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nano.corpus import theory
from nano.corpus.arrange import LEAD, arrange
from nano.corpus.genres import GENRES, LABELS, STEP_COUNT, drums
from nano.corpus.labels import Labels
from nano.corpus.spec import SongSpec
from nano.corpus.spelling import CONSONANTS, VOWELS
from nano.corpus.voice import HISSES, LOWEST, SPAN

PITCHES = tuple(low + i for low in LOWEST.values() for i in range(SPAN + 1))
"""All that are sung."""
VOICED = tuple(c for c in CONSONANTS if c not in HISSES)
CHORDS = tuple(tone + quality for tone in theory.KEYS for quality in ("", "m"))
_GENRES = tuple(GENRES)


def _strokes() -> tuple[tuple[str, ...], ...]:
    """All sets of drums that some pattern strikes at once."""
    found: dict[tuple[str, ...], None] = {}
    for genre in GENRES:
        for label in LABELS:
            for dense in (True, False):
                layers = drums(genre, label, dense)
                for step in range(STEP_COUNT):
                    found[tuple(sorted(name for name, hits in layers.items() if hits[step] != "."))] = None
    found.pop(())
    return tuple(found)


STROKES = _strokes()

SILENT = 0
VOWEL_STARTS = 1
VOWEL_GOES_ON = VOWEL_STARTS + len(VOWELS) * len(PITCHES)
VOICED_CONSONANT = VOWEL_GOES_ON + len(VOWELS) * len(PITCHES)
HISS = VOICED_CONSONANT + len(VOICED) * len(PITCHES)
STROKE = HISS + len(HISSES)
HELD = STROKE + len(STROKES) * len(CHORDS)
LEADS = HELD + len(GENRES) * len(CHORDS)
COUNT = LEADS + len(GENRES) * 12
"""Rows with a meaning; at most 1024."""
NAMES = tuple(HISSES)


def states(spec: SongSpec) -> NDArray[np.int64]:
    """The state of every frame of a song: vocal and instrumental [2, F]."""
    events, labels = arrange(spec)
    vocal = np.full(labels.frames, SILENT)
    lead = np.full(labels.frames, -1)
    struck: dict[int, set[str]] = {}
    for event in events:
        frames = slice(event.frame, event.frame + event.frames)
        match event.sound:
            case ("vowel", str(name), _, int(pitch), _):
                row = VOWELS.index(name) * len(PITCHES) + PITCHES.index(pitch)
                vocal[frames] = VOWEL_GOES_ON + row
                vocal[event.frame] = VOWEL_STARTS + row
            case ("consonant", str(name), _, int(pitch)):
                _consonant(vocal[frames], name, pitch)
            case ("drum", str(name), _):
                struck.setdefault(event.frame, set()).add(name)
            case ("note", str(name), int(pitch), _, _) if name == GENRES[spec.genre].sounds[2]:
                lead[frames] = pitch - LEAD
    return np.stack([vocal, _accompaniment(spec.genre, labels, lead, struck)])


def _consonant(frames: NDArray[np.int64], name: str, pitch: int) -> None:
    """Fill in a consonant; a burst is silent in its first frame."""
    if name in VOICED:
        frames[:] = VOICED_CONSONANT + VOICED.index(name) * len(PITCHES) + PITCHES.index(pitch)
    elif HISSES[name].burst:
        frames[-1] = HISS + NAMES.index(name)
    else:
        frames[:] = HISS + NAMES.index(name)


def _accompaniment(
    genre: str, labels: Labels, lead: NDArray[np.int64], struck: dict[int, set[str]]
) -> NDArray[np.int64]:
    number, chord = _GENRES.index(genre), chords(labels)
    out = np.where(lead >= 0, LEADS + number * 12 + lead, HELD + number * len(CHORDS) + chord)
    for frame, names in struck.items():
        out[frame] = STROKE + STROKES.index(tuple(sorted(names))) * len(CHORDS) + chord[frame]
    return out


def chords(labels: Labels) -> NDArray[np.int64]:
    """The chord of every frame [F], as its place in CHORDS."""
    out = np.zeros(labels.frames, np.int64)
    for section in labels.sections:
        for label in section.chords:
            out[label.frame :] = CHORDS.index(label.name)
    return out
