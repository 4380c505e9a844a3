"""References that stage 1 learns to take up: another song of the same genre, sung by the same voice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nano.corpus import SongSpec, sample_spec
from nano.corpus.genres import GENRES
from nano.corpus.spec import GENDERS
from nano.corpus.states import SILENT, states
from nano.train.mistakes import confused
from yuegguf.lm.vocab import interleave

Ints = NDArray[np.int64]
TRACKS = {"both": 0.6, "vocal": 0.2, "instrumental": 0.2}
"""Tracks of the reference → share of the rows with a reference."""
TELLS = {"both": ("genre", "gender"), "vocal": ("gender",), "instrumental": ("genre",)}
"""Tracks of the reference → tags that follow from it."""
OVERRULED = 0.25
"""Share of the rows whose tags say everything: there they decide, whatever the reference is."""
HEARD = 0.75
"""Share of the references that are as the codec hears a recording."""
SHORTEST, LONGEST = 100, 1500
"""Frames of a reference."""
SUNG = 0.2
"""Least share of its frames in which somebody sings."""
FIRST_SEED = 1_000_000
"""Songs from here on are for training; lower seeds are held out."""


@dataclass(frozen=True)
class Reference:
    """A reference and what its song takes from it."""

    codes: Ints
    """[N] in stage-1 order: one track, or V0 I0 V1 I1 …"""
    tells: dict[str, str]
    """Tag that the song's tags leave out → its value."""


def with_reference(spec: SongSpec, draw: np.random.Generator) -> tuple[SongSpec, Reference]:
    """The song with less in its tags, and a reference that says it instead.

    With OVERRULED the tags stay, and the reference is any song's.
    """
    kind = str(draw.choice(list(TRACKS), p=list(TRACKS.values()))) if spec.gender else "instrumental"
    told = {name: getattr(spec, name) for name in TELLS[kind]}
    overruled = draw.random() < OVERRULED
    like = any_kind(draw) if overruled else told
    codes = recording(like, kind, draw)
    if overruled:
        return spec, Reference(codes, {})
    words = [word for word in spec.tags.split() if word not in told.values()]
    return replace(spec, tags=" ".join(words)), Reference(codes, told)


def any_kind(draw: np.random.Generator) -> dict[str, str]:
    """A genre and a voice."""
    return {"genre": str(draw.choice(list(GENRES))), "gender": str(draw.choice(GENDERS))}


def recording(like: dict[str, str], kind: str, draw: np.random.Generator) -> Ints:
    """A window of a corpus song of that genre or voice, in stage-1 order; its vocal is not silent."""
    while True:
        song = sample_spec(FIRST_SEED + int(draw.integers(1 << 40)))
        tracks = states(replace(song, **{"gender": str(draw.choice(GENDERS)), **like}))
        frames = int(draw.integers(SHORTEST, LONGEST + 1))
        start = int(draw.integers(max(1, tracks.shape[1] - frames + 1)))
        vocal, instrumental = tracks[:, start : start + frames]
        if kind == "instrumental" or np.mean(vocal != SILENT) > SUNG:
            break
    if draw.random() < HEARD:
        instrumental = confused(instrumental, draw)
    if kind == "both":
        return interleave(vocal, instrumental).astype(np.int64)
    return vocal if kind == "vocal" else instrumental
