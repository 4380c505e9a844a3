"""Songs after a reference: do they take up its genre and its voice?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

import yuegguf
from nano.corpus import SongSpec, make_song, sample_spec
from nano.corpus.genres import GENRES
from nano.corpus.spec import GENDERS
from nano.corpus.states import COUNT, HELD, LEADS
from nano.evaluate.requests import frames
from nano.evaluate.songs import SECONDS
from nano.measure import vocals
from yuegguf.codec.protocol import FRAME_RATE, SONG_RATE
from yuegguf.request.song_request import Reference

FIRST_SEED = 500_000
"""References are held-out songs from here on."""
LENGTH = 30.0
"""Seconds of a reference."""
TRACKS = ("both tracks", "the vocal alone", "the instrumental alone")


def referring(specs: list[SongSpec], folder: Path) -> dict[str, dict[str, list[bool]]]:
    """Each request with a reference of every kind and without one; the tags say neither genre nor voice.

    Every genre and voice is asked for as often, whatever song the request was of.
    """
    names = (*TRACKS, "without")
    found: dict[str, dict[str, list[bool]]] = {name: {"genre": [], "register": []} for name in names}
    for spec, like in zip(specs, references(len(specs)), strict=True):
        words = [word for word in spec.tags.split() if word not in (spec.genre, spec.gender)]
        plain = yuegguf.SongRequest(" ".join(words), spec.lyrics, segment_seconds=SECONDS, seed=spec.seed)
        for name, reference in zip(names, [*written(like, folder), None], strict=True):
            song = yuegguf.generate(
                replace(plain, reference=reference), yuegguf.ModelChoice("nano"), folder, name="referring"
            )
            wave, rate = soundfile.read(song.folder / "vocals.wav", dtype="float32")
            found[name]["genre"].append(written_genre(song.folder) == like.genre)
            found[name]["register"].append(vocals.register(wave, rate) == like.gender)
    return found


def references(count: int) -> Iterator[SongSpec]:
    """Held-out songs of at least LENGTH, of every genre and voice in turn."""
    kinds = list(product(GENRES, GENDERS))
    seed = FIRST_SEED
    for number in range(count):
        genre, gender = kinds[number % len(kinds)]
        while True:
            spec, seed = sample_spec(seed), seed + 1
            if (spec.genre, spec.gender) == (genre, gender) and frames(spec) >= LENGTH * FRAME_RATE:
                break
        yield spec


def written(spec: SongSpec, folder: Path) -> list[Reference]:
    """The song's stems in files: both tracks, the vocal and the instrumental as references."""
    song = make_song(spec)
    paths = {name: str(folder / f"reference-{spec.seed}-{name}.wav") for name in ("vocal", "instrumental")}
    for name, path in paths.items():
        soundfile.write(path, getattr(song, name), SONG_RATE)
    alone = [Reference(mix=path, end=LENGTH) for path in paths.values()]
    return [Reference(**paths, end=LENGTH), *alone]


def written_genre(folder: Path) -> str:
    """The genre whose chords and leads a song's instrumental codes name most often.

    Of codes, because what a genre is called is exact there; stage 2 and the codec do not change it.
    """
    with np.load(folder / "stage1.npz") as kept:
        codes = kept["codes"][1]
    held, leads = codes[(codes >= HELD) & (codes < LEADS)], codes[(codes >= LEADS) & (codes < COUNT)]
    each = [(LEADS - HELD) // len(GENRES), (COUNT - LEADS) // len(GENRES)]
    named = np.concatenate([(held - HELD) // each[0], (leads - LEADS) // each[1]])
    return list(GENRES)[int(np.bincount(named, minlength=len(GENRES)).argmax())]
