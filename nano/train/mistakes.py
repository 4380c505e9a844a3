"""Mistakes in the codes that stage 1 reads in training: its own, and the codec's of a recording."""

from __future__ import annotations

import numpy as np

from nano.corpus.genres import GENRES
from nano.corpus.states import CHORDS, COUNT, HELD, LEADS
from nano.tokenizer import SPECIALS, TEXT_PIECES

FIRST = TEXT_PIECES + len(SPECIALS)
"""The id of state 0; all ids from here on are states."""
NOISE = 0.02
"""Share of codes that are read as another one: at run time the model reads its own mistakes."""
LATE, SPAN, FARTHEST = 0.05, 6, 12
"""Share of codes that are read in spans, of SPAN frames on average, as what the track had up to FARTHEST
frames before or after: at run time a syllable is held too long or comes too soon."""
CONFUSION = 0.4
"""Share of the chords and leads of a song's beginning that are read in another genre, and of its chords in
the other mode: so the codec hears half of the instrumentals' frames of a recording."""
TONES = 12
"""Leads of a genre."""


def noisy(ids: np.ndarray, step: int) -> np.ndarray:
    """Ids [B, T] with mistakes: a half of the rows has none, a quarter begins as a recording does."""
    draw = np.random.default_rng([step, 14])
    out = ids.copy()
    for given, read in zip(ids, out, strict=True):
        codes = np.flatnonzero(given >= FIRST)
        fate = draw.random()
        if fate < 0.5 or not len(codes):
            continue
        if fate < 0.75:
            begun = codes[: int(draw.uniform(0.1, 0.8) * len(codes))]
            read[begun] = FIRST + confused(read[begun] - FIRST, draw)
        hit = codes[draw.random(len(codes)) < NOISE]
        read[hit] = given[draw.choice(codes, len(hit))]
        _delay(codes, given, read, draw)
    return out


def confused(states: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """States [N] as the codec hears a recording; the same ones in the same way. Voices are unharmed."""
    heard, genre = np.arange(COUNT), int(draw.integers(len(GENRES)))
    held = np.arange(HELD, LEADS)
    other = HELD + (held - HELD) % len(CHORDS) + genre * len(CHORDS)
    heard[held] = np.where(draw.random(len(held)) < CONFUSION, other, held)
    flipped = HELD + ((heard[held] - HELD) ^ 1)  # CHORDS has each tone's two modes side by side
    heard[held] = np.where(draw.random(len(held)) < CONFUSION, flipped, heard[held])
    lead = np.arange(LEADS, COUNT)
    other = LEADS + (lead - LEADS) % TONES + genre * TONES
    heard[lead] = np.where(draw.random(len(lead)) < CONFUSION, other, lead)
    return heard[states]


def _delay(codes: np.ndarray, given: np.ndarray, read: np.ndarray, draw: np.random.Generator) -> None:
    """Replace spans of one track in READ by what the same track of GIVEN has some frames off."""
    for _ in range(round(LATE * len(codes) / SPAN)):
        frames, off = int(draw.integers(1, 2 * SPAN)), int(draw.integers(1, FARTHEST + 1))
        span = int(draw.integers(len(codes))) + 2 * np.arange(frames)
        source = span + 2 * off * int(draw.choice([-1, 1]))
        there = (span < len(codes)) & (source >= 0) & (source < len(codes))
        read[codes[span[there]]] = given[codes[source[there]]]
