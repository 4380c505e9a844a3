"""Specification of a song, and its tags line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nano.corpus import theory
from nano.corpus.draws import Draws
from nano.corpus.genres import GENRES, MOODS, STRUCTURES
from nano.corpus.lexicon import make_line
from nano.corpus.timing import section_bars
from yuegguf.request.lyrics import parse_lyrics

GENDERS = ("female", "male")
NEUTRAL = (
    "acoustic", "airy", "ballad", "bass", "catchy", "dreamy", "drums", "emotional", "epic", "groovy",
    "guitar", "hopeful", "indie", "inspiring", "melodic", "modern", "nostalgic", "piano", "romantic",
    "smooth", "soul", "strings", "synth", "uplifting", "voice", "vocal", "warm",
)  # fmt: skip
"""Tags of real requests that change nothing here: a model shall learn to pass over them."""
LONGEST = 480
"""Frames of the longest sung section that is drawn."""


@dataclass(frozen=True)
class SectionSpec:
    """A label and the lines under it; no lines = instrumental."""

    label: str
    body: str = ""


@dataclass(frozen=True)
class SongSpec:
    """All that a song follows from; the same spec gives the same audio."""

    genre: str
    mood: str
    gender: str
    """Gender of the voice; the empty string in an instrumental."""
    beat_frames: int
    key: str
    mode: str
    sections: tuple[SectionSpec, ...]
    tags: str
    seed: int = 0
    """Draws the melodies, nothing else."""

    @property
    def bpm(self) -> float:
        """Tempo; the tags carry it rounded."""
        return theory.bpm(self.beat_frames)

    @property
    def lyrics(self) -> str:
        """Sections under their labels, as the runtime reads them."""
        return "\n\n".join(f"[{s.label}]\n{s.body}".rstrip() for s in self.sections) + "\n"


@dataclass(frozen=True)
class Tags:
    """Values of a tags line; None = not named."""

    genre: str | None = None
    mood: str | None = None
    gender: str | None = None
    bpm: int | None = None
    key: str | None = None
    mode: str | None = None


def make_tags(
    genre: str, mood: str, gender: str, beat_frames: int, *, key: str, mode: str, draws: Draws | None = None
) -> str:
    """Such as "pop happy female vocal 125 bpm C major bright".

    With `draws`, words may swap places or go missing, and words without a meaning here may join them.
    """
    voice = f"{gender} vocal" if gender else "instrumental"
    fixed = f"{round(theory.bpm(beat_frames))} bpm {key} {mode}"
    parts = [genre, mood, voice, fixed, MOODS[mood].word]
    if draws is None:
        return " ".join(parts)
    if draws.chance(35):
        parts.pop()
    if draws.chance(10):
        parts.remove(draws.choice([genre, mood]))
    if draws.chance(8):
        parts.remove(fixed)
    if draws.chance(25):
        parts += [draws.choice(NEUTRAL) for _ in range(1 + draws.below(4))]
    return " ".join(draws.shuffled(parts) if draws.chance(30) else parts)


def parse_tags(text: str) -> Tags:
    """Read a tags line in any order and case; unknown words are passed over."""
    words = re.findall(r"[a-z0-9#]+", text.lower())
    synonyms = {mood.word: name for name, mood in MOODS.items()}
    genre = next((w for w in words if w in GENRES), None)
    mood = next((w for w in words if w in MOODS), None) or next(
        (synonyms[w] for w in words if w in synonyms), None
    )
    gender = next((w for w in words if w in GENDERS), "" if "instrumental" in words else None)
    tempo = re.search(r"(\d+)\s*bpm", text.lower())
    key = re.search(r"\b([a-g]#?)\s+(major|minor)\b", text.lower())
    return Tags(
        genre, mood, gender, int(tempo[1]) if tempo else None, key[1].upper() if key else None, key and key[2]
    )


def sample_spec(seed: int) -> SongSpec:
    """The song of a seed."""
    draws = Draws(seed, 1)
    genre, mood = draws.choice(list(GENRES)), draws.choice(list(MOODS))
    beat, mode = draws.choice(MOODS[mood].beats), draws.choice(MOODS[mood].modes)
    key, gender = draws.choice(theory.KEYS), draws.choice(GENDERS)
    structure = draws.choice(STRUCTURES).split()
    if draws.chance(6):
        gender = ""
    sections = tuple(
        SectionSpec(label, _body(draws, label, genre, beat) if gender else "") for label in structure
    )
    if not any(section.body for section in sections):
        gender = ""
    tags = make_tags(genre, mood, gender, beat, key=key, mode=mode, draws=draws)
    return SongSpec(genre, mood, gender, beat, key, mode, sections, tags, seed)


def spec_from(tags: str, lyrics: str, seed: int = 0) -> SongSpec:
    """The song that the studio would make of a request; what the tags leave open follows from the seed.

    Raises RequestError for lyrics without a section.
    """
    asked, draws = parse_tags(tags), Draws(seed, 2)
    genre = asked.genre or draws.choice(list(GENRES))
    mood = asked.mood or draws.choice(list(MOODS))
    beat = theory.beat_frames_of(asked.bpm) if asked.bpm else draws.choice(MOODS[mood].beats)
    mode = asked.mode or draws.choice(MOODS[mood].modes)
    key = asked.key or draws.choice(theory.KEYS)
    sections = tuple(SectionSpec(s.label, s.body) for s in parse_lyrics(lyrics).sections)
    gender = asked.gender or draws.choice(GENDERS)
    return SongSpec(genre, mood, gender, beat, key, mode, sections, tags, seed)


def _body(draws: Draws, label: str, genre: str, beat_frames: int) -> str:
    """Lines for a section: most verses are sung, most intros are not."""
    silent = {"intro": 75, "outro": 50}.get(label, 8)
    if draws.chance(silent):
        return ""
    wanted = 2 if label in ("intro", "outro") else 2 + draws.below(3)
    body: list[str] = []
    for _ in range(wanted):
        longer = [*body, make_line(draws)]
        bars = section_bars("\n".join(longer), genre, beat_frames)
        if bars * theory.BEATS_PER_BAR * beat_frames <= LONGEST:
            body = longer
    return "\n".join(body)
