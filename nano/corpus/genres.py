"""Patterns of the genres: drums, bass, chords and their sounds. All patterns are one bar of sixteenths.

Drums: `x` is a hit. Bass: `r` root, `t` third, `f` fifth. Chords: `x` strikes the triad, `0` `1` `2` pluck
one tone of it. Bass and chords are held to their next stroke or to the change of the chord. A chord lasts
half a bar, and a progression is four chords; verses, intros and outros play the first of each mode,
choruses and bridges the second. All progressions begin on the tonic and most come back to it; the minor
mode has a major dominant, so that the key is plain.
"""

from __future__ import annotations

from dataclasses import dataclass

Layers = dict[str, str]


@dataclass(frozen=True)
class Genre:
    """One row of the tables."""

    light: Layers
    """Drum → pattern in verses."""
    full: Layers
    """Drum → pattern in choruses."""
    bass: str
    chords: tuple[str, str]
    """Patterns of the sparse moods and of the dense ones."""
    sounds: tuple[str, str, str]
    """Names of the bass, chord and lead sounds."""
    progressions: dict[str, tuple[str, str]]
    fastest_eighth: int
    """Smallest beat in frames at which syllables fall on eighths; below it on quarters."""


STEP_COUNT = 16
"""Sixteenths of a bar: the length of every pattern."""
EIGHTHS, QUARTERS = "x.x.x.x.x.x.x.x.", "x...x...x...x..."

GENRES: dict[str, Genre] = {
    "pop": Genre(
        light={"kick": "x.......x.......", "snare": "....x.......x...", "hat": EIGHTHS},
        full={"kick": "x.....x.x.......", "snare": "....x.......x...", "hat": EIGHTHS},
        bass="r.....r.r.....r.",
        chords=("x.......x.......", QUARTERS),
        sounds=("round", "piano", "bell"),
        progressions={"major": ("I IV I V", "I V IV I"), "minor": ("i VI i V", "i VI V i")},
        fastest_eighth=28,
    ),
    "rock": Genre(
        light={"kick": "x.......x.x.....", "thud": "....x.......x...", "hat": QUARTERS},
        full={"kick": "x...x...x...x...", "thud": "....x.......x...", "hat": EIGHTHS},
        bass="r.r.r.r.r.r.r.r.",
        chords=(QUARTERS, EIGHTHS),
        sounds=("pick", "drive", "square"),
        progressions={"major": ("I I IV V", "I IV V I"), "minor": ("i V i VI", "i VI V i")},
        fastest_eighth=28,
    ),
    "folk": Genre(
        light={"stomp": QUARTERS, "shaker": "....x.......x..."},
        full={"stomp": QUARTERS, "shaker": QUARTERS},
        bass="r.......r...f...",
        chords=("0...1...2...1...", "0.1.2.1.0.1.2.1."),
        sounds=("upright", "guitar", "flute"),
        progressions={"major": ("I V I IV", "I IV V I"), "minor": ("i iv i V", "i iv V i")},
        fastest_eighth=28,
    ),
    "electronic": Genre(
        light={"boom": QUARTERS, "hat": "..x...x...x...x."},
        full={"boom": QUARTERS, "clap": "....x.......x...", "hat": "..x...x...x...x."},
        bass="..r...r...r...r.",
        chords=("x.......x.......", "x..x..x.x..x..x."),
        sounds=("synth", "saw", "square"),
        progressions={"major": ("I I V IV", "I IV I V"), "minor": ("i i VI V", "i iv i V")},
        fastest_eighth=24,
    ),
    "jazz": Genre(
        light={"ride": "x...x..xx...x..x", "rim": "....x.......x..."},
        full={"ride": "x...x..xx...x..x", "rim": "....x.......x...", "stomp": "x.......x......."},
        bass="r...t...r...t...",
        chords=("x.......x.......", "x..x....x..x...."),
        sounds=("upright", "epiano", "sax"),
        progressions={"major": ("I vi IV V", "I IV V I"), "minor": ("i iv V i", "i VI V i")},
        fastest_eighth=28,
    ),
    "hiphop": Genre(
        light={"boom": "x.........x.....", "clap": "....x.......x...", "hat": QUARTERS},
        full={"boom": "x..x......x.....", "clap": "....x.......x...", "hat": EIGHTHS},
        bass="r..r....r.r.....",
        chords=("x.......x.......", "x.....x.x.....x."),
        sounds=("sub", "keys", "bell"),
        progressions={"major": ("I IV I V", "I I IV V"), "minor": ("i V i iv", "i iv V i")},
        fastest_eighth=24,
    ),
}


@dataclass(frozen=True)
class Mood:
    """Influence of a mood on a song."""

    modes: tuple[str, ...]
    """Drawn from these, repeated for weight."""
    beats: tuple[int, ...]
    """Frames of a beat, drawn from these."""
    dense: bool
    """Dense patterns and bright chords, or sparse and mellow ones."""
    word: str
    """A second word for it in the tags."""


MOODS: dict[str, Mood] = {
    "happy": Mood(("major",), (20, 24, 28), True, "bright"),
    "sad": Mood(("minor",), (28, 32, 36), False, "dark"),
    "calm": Mood(("major", "major", "minor"), (24, 28, 32, 36), False, "soft"),
    "energetic": Mood(("minor", "minor", "major"), (20, 24, 28, 32), True, "driving"),
}

LABELS = ("verse", "chorus", "bridge", "intro", "outro")
STRUCTURES: tuple[str, ...] = (
    "verse", "chorus", "verse chorus", "verse chorus", "intro verse", "intro chorus", "chorus outro",
    "bridge chorus", "verse outro", "intro verse chorus", "verse chorus outro", "verse bridge chorus",
    "intro verse chorus outro", "verse chorus verse chorus", "verse chorus bridge chorus",
)  # fmt: skip
"""Drawn from these, with repetition for weight."""


def drums(genre: str, label: str, dense: bool) -> Layers:
    """Drum → pattern of one bar in a section with that label. Sparse moods lose the cymbals between beats."""
    table = GENRES[genre]
    layers = dict(table.full if label == "chorus" else table.light)
    if label == "bridge":  # the low drum and the backbeat only
        layers.pop("hat", None)
    if not dense and layers.get("hat") == EIGHTHS:
        layers["hat"] = QUARTERS
    return layers


def progression(genre: str, mode: str, label: str) -> list[str]:
    """Four roman numerals, each for half a bar."""
    return GENRES[genre].progressions[mode][label in ("chorus", "bridge")].split()
