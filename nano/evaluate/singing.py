"""Songs made by the public API, and what the measures hear in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

import yuegguf
from nano.corpus import SongSpec
from nano.corpus.arrange import arrange
from nano.evaluate.requests import lengths
from nano.measure import music, singing, vowels
from yuegguf.codec.protocol import FRAME_RATE

SECONDS = 30.0
"""Longest a section may become; the corpus's longest has 9.6."""
SILENT_DB = 25.0
"""By how much a section without words must be quieter than the quietest sung one."""


@dataclass
class Heard:
    """Answers about one song or several: which were as asked."""

    tempo: list[bool] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    register: list[bool] = field(default_factory=list)
    silence: list[bool] = field(default_factory=list)
    """Per section without words, in songs that also sing."""
    onsets: list[bool] = field(default_factory=list)
    """Per sung section: syllables within 20 %."""
    ended: list[bool] = field(default_factory=list)
    """Per section: ended by <EOA>."""
    length: list[bool] = field(default_factory=list)
    """Per section: within 25 % of the corpus's."""
    vowels: list[tuple[str, str]] = field(default_factory=list)
    """Heard and asked."""
    seconds: list[float] = field(default_factory=list)

    def add(self, other: Heard) -> None:
        """Take in another song's answers."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)

    def shares(self) -> dict[str, float]:
        """Share of right answers by measure, 0 … 1."""
        names = ("tempo", "key", "register", "silence", "onsets", "ended", "length")
        found = {
            name: float(np.mean(getattr(self, name))) if getattr(self, name) else np.nan for name in names
        }
        return {**found, "vowels": vowels.accuracy(*map(list, zip(*self.vowels, strict=True)))}


def sing(spec: SongSpec, models: yuegguf.ModelChoice, folder: Path, name: str) -> yuegguf.Song:
    """Make the song, or go on with it, in FOLDER/NAME-…: the runtime ends a folder's name with a hash."""
    if there := sorted(folder.glob(f"{name}-*/song.json")):
        return yuegguf.resume(there[0].parent, models)
    request = yuegguf.SongRequest(spec.tags, spec.lyrics, segment_seconds=SECONDS, seed=spec.seed)
    return yuegguf.generate(request, models, folder, name=name)


def judge(song: yuegguf.Song, spec: SongSpec, classifier: vowels.VowelClassifier) -> Heard:
    """Measure a finished song against its spec."""
    mix, vocal, backing = (_read(song.folder, name) for name in ("mix", "vocals", "instrumental"))
    heard = Heard(seconds=[song.seconds])
    heard.tempo.append(music.same_tempo(music.tempo(*backing), spec.bpm))
    heard.key.append(music.key(*mix) == (spec.key, spec.mode))
    heard.ended += [section.complete for section in song.sections]
    heard.length += [
        abs(section.seconds * FRAME_RATE / asked - 1) <= 0.25
        for section, asked in zip(song.sections, lengths(spec), strict=True)
    ]
    _judge_voice(heard, song, spec, *vocal, classifier)
    return heard


def _judge_voice(
    heard: Heard,
    song: yuegguf.Song,
    spec: SongSpec,
    vocal: np.ndarray,
    rate: int,
    classifier: vowels.VowelClassifier,
) -> None:
    labels = arrange(spec)[1].sections
    spans = [(section.start, section.start + section.seconds) for section in song.sections]
    levels = singing.section_levels(vocal, rate, spans)
    sung = [level for level, label in zip(levels, labels, strict=True) if label.syllables]
    if not sung:
        return
    heard.register.append(singing.register(vocal, rate) == spec.gender)
    for (start, end), level, label in zip(spans, levels, labels, strict=True):
        if not label.syllables:
            heard.silence.append(min(sung) - level >= SILENT_DB)
            continue
        part = vocal[round(start * rate) : round(end * rate)]
        count = singing.syllable_count(part, rate)
        heard.onsets.append(abs(count / len(label.syllables) - 1) <= 0.2)
        # a syllable is looked for where the corpus would sing it
        times = [(_seconds(s.vowel_start, label), _seconds(s.vowel_end, label)) for s in label.syllables]
        inside = [
            (span, s.vowel) for span, s in zip(times, label.syllables, strict=True) if span[1] < end - start
        ]
        found = classifier.classify(part, rate, [span for span, _ in inside])
        heard.vowels += list(zip(found, (vowel for _, vowel in inside), strict=True))
        heard.vowels += [("", s.vowel) for s in label.syllables[len(inside) :]]


def _seconds(frame: int, label: object) -> float:
    return (frame - label.start) / FRAME_RATE


def _read(folder: Path, name: str) -> tuple[np.ndarray, int]:
    wave, rate = soundfile.read(folder / f"{name}.wav", dtype="float32", always_2d=True)
    return wave.mean(axis=1), rate


def evaluate(
    specs: list[SongSpec],
    models: yuegguf.ModelChoice,
    folder: Path,
    classifier: vowels.VowelClassifier,
    tell: Callable[[str], None],
) -> Heard:
    """Make and judge all songs; what is in FOLDER already is not made again."""
    heard = Heard()
    for spec in specs:
        heard.add(judge(sing(spec, models, folder, f"{spec.seed:04d}"), spec, classifier))
        tell(f"seed {spec.seed}: " + " ".join(f"{k} {v:.2f}" for k, v in heard.shares().items()))
    return heard
