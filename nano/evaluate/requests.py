"""Held-out requests: tags and lyrics that no model was trained on."""

from __future__ import annotations

from nano.corpus import SongSpec, parse_tags, sample_spec
from nano.corpus.timing import section_frames

FIRST_SEED = 0
"""Training draws its songs from 1,000,000 on."""
LONGEST = 1700
"""Frames: what fits into the rows of training."""


def held_out(count: int) -> list[SongSpec]:
    """The first songs whose tags say tempo, key and voice."""
    found: list[SongSpec] = []
    seed = FIRST_SEED
    while len(found) < count:
        spec = sample_spec(seed)
        if parse_tags(spec.tags).bpm and frames(spec) <= LONGEST:
            found.append(spec)
        seed += 1
    return found


def frames(spec: SongSpec) -> int:
    """Length that the corpus gives the song."""
    return sum(lengths(spec))


def lengths(spec: SongSpec) -> list[int]:
    """Frames that the corpus gives each section."""
    bodies = [section.body if spec.gender else "" for section in spec.sections]
    return [section_frames(body, spec.genre, spec.beat_frames) for body in bodies]
