"""Codebooks 1-4 of an instrumental frame: the age of each of its sounds.

A sound is the same samples whenever it is played, so pitch and age say where in its wave a frame lies.
Stage 2 can count ages; it could never predict phases.

| codebook | rows |
|---|---|
| 1 | chord, and frames since it was struck |
| 2 | note of the bass, and frames since it was struck |
| 3 | drums that still ring, each with its age |
| 4 | note of the lead, and frames since it began |

The last of these rows of each codebook stands for silence; the rest of a codebook is free.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nano.corpus.arrange import Event, arrange
from nano.corpus.genres import GENRES, LABELS, MOODS, STEP_COUNT, drums
from nano.corpus.instruments import DRUMS
from nano.corpus.spec import SongSpec
from nano.corpus.states import CHORDS, chords, states
from nano.corpus.theory import BEAT_FRAMES

AGES = {"chord": 36, "bass": 72, "lead": 36}
"""Ages that are told apart; an older sound counts as the oldest."""


@lru_cache(maxsize=1)
def ringing() -> dict[tuple[tuple[str, int], ...], int]:
    """Every set of drums with ages that some pattern makes → its row of codebook 3."""
    found: set[tuple[tuple[str, int], ...]] = set()
    for genre in GENRES:
        for label in LABELS:
            for dense in {mood.dense for mood in MOODS.values()}:
                for beat in BEAT_FRAMES:
                    found |= _bar(drums(genre, label, dense), beat // 4)
    return {state: row for row, state in enumerate(sorted(found - {()}))}


def _bar(layers: dict[str, str], step: int) -> set[tuple[tuple[str, int], ...]]:
    """The states of two bars of a pattern."""
    frames: list[dict[str, int]] = [{} for _ in range(2 * STEP_COUNT * step)]
    for name in layers:
        for place in range(2 * STEP_COUNT):
            if layers[name][place % STEP_COUNT] != ".":
                _ring(frames, name, place * step)
    return {tuple(sorted(frame.items())) for frame in frames}


def _ring(frames: list[dict[str, int]], name: str, first: int) -> None:
    for age, frame in enumerate(frames[first : first + DRUMS[name].frames]):
        frame[name] = age


def sizes() -> tuple[int, int, int, int]:
    """Rows of codebooks 1-4 that have a meaning."""
    return (
        len(CHORDS) * AGES["chord"] + 1,
        12 * AGES["bass"] + 1,
        len(ringing()) + 1,
        12 * AGES["lead"] + 1,
    )


def details(spec: SongSpec) -> NDArray[np.int64]:
    """Rows of codebooks 1-4 for every frame of the instrumental track [4, F]."""
    events, labels = arrange(spec)
    out = np.repeat(np.array(sizes())[:, None] - 1, labels.frames, axis=1)
    bass, chord, lead = GENRES[spec.genre].sounds
    harmony = chords(labels)
    for event in events:
        age = np.arange(event.frames)
        frames = slice(event.frame, event.frame + event.frames)
        match event.sound:
            case ("note", str(name), int(pitch), _, _) if name == bass:
                out[1, frames] = pitch % 12 * AGES["bass"] + np.minimum(age, AGES["bass"] - 1)
            case ("note", str(name), _, _, _) if name == chord:
                out[0, frames] = harmony[frames] * AGES["chord"] + np.minimum(age, AGES["chord"] - 1)
            case ("note", str(name), int(pitch), _, _) if name == lead:
                out[3, frames] = pitch % 12 * AGES["lead"] + np.minimum(age, AGES["lead"] - 1)
    out[2] = _drums(events, labels.frames)
    return out


def all_rows(spec: SongSpec) -> NDArray[np.int64]:
    """All rows with a meaning: codebooks 0-4 of vocal and instrumental [5, 2, F]; -1 = none."""
    first = states(spec)
    out = np.full((5, *first.shape), -1)
    out[0], out[1:, 1] = first, details(spec)
    return out


def _drums(events: list[Event], count: int) -> NDArray[np.int64]:
    frames: list[dict[str, int]] = [{} for _ in range(count)]
    for event in events:
        match event.sound:
            case ("drum", str(name), _):
                _ring(frames, name, event.frame)
    rows = ringing()
    # where one section's ring meets the next one's pattern, the younger drums alone are looked up
    return np.array([rows.get(_known(frame, rows), len(rows)) for frame in frames])


def _known(
    frame: dict[str, int], rows: dict[tuple[tuple[str, int], ...], int]
) -> tuple[tuple[str, int], ...]:
    left = sorted(frame.items(), key=lambda item: item[1])
    while left and tuple(sorted(left)) not in rows:
        left.pop()
    return tuple(sorted(left))
