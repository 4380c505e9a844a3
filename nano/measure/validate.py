"""Every measure on clean songs of the corpus: what it says about audio that is right by construction."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nano.corpus import CorpusSong, SectionLabel, make_song
from nano.measure import distance, music, vocals, vowels
from yuegguf.codec.protocol import FRAME_RATE

HELD_OUT = 1_000_000
"""First seed of the songs that nothing is fitted on."""
FITTED = 2_000_000
"""First seed of the songs that the vowel classifier is fitted on."""


def vowel_sample(song: CorpusSong, rate: int = 16_000) -> vowels.Sample:
    """A song's vocal stem with its vowels."""
    wave = song.vocal16 if rate == 16_000 else song.vocal
    sung = [s for section in song.labels.sections for s in section.syllables]
    spans = [(s.vowel_start / FRAME_RATE, s.vowel_end / FRAME_RATE) for s in sung]
    return wave, rate, spans, [s.vowel for s in sung]


def corpus_classifier(count: int = 60) -> vowels.VowelClassifier:
    """A classifier fitted on that many songs at 16 kHz."""
    songs = (make_song(FITTED + i) for i in range(count))
    return vowels.fit(vowel_sample(song) for song in songs if song.spec.gender)


def section_wave(wave: np.ndarray, rate: int, section: SectionLabel) -> np.ndarray:
    """The part of a wave that a section covers."""
    hop = rate // FRAME_RATE
    return wave[section.start * hop : (section.start + section.frames) * hop]


def validate(seeds: Iterable[int], classifier: vowels.VowelClassifier) -> dict[str, float]:
    """Shares of right answers, 0 … 1, and the smallest gap from sung to silent sections in dB."""
    right: dict[str, list[bool]] = {"tempo": [], "key": [], "onsets": [], "register": []}
    asked: list[str] = []
    found: list[str] = []
    gaps: list[float] = []
    for song in map(make_song, seeds):
        right["tempo"].append(music.same_tempo(music.tempo(song.instrumental16, 16_000), song.spec.bpm))
        right["key"].append(music.key(song.mix16, 16_000) == (song.spec.key, song.spec.mode))
        if song.spec.gender:
            right["register"].append(vocals.register(song.vocal16, 16_000) == song.spec.gender)
            wave, rate, spans, names = vowel_sample(song)
            found += classifier.classify(wave, rate, spans)
            asked += names
        right["onsets"] += _onset_hits(song)
        gaps += _gaps(song)
    shares = {name: float(np.mean(hits)) for name, hits in right.items()}
    return {**shares, "vowels": vowels.accuracy(found, asked), "silence_db": min(gaps, default=np.inf)}


def _onset_hits(song: CorpusSong) -> list[bool]:
    """Whether each sung section's syllables are counted within 20 %."""
    hits = []
    for section in song.labels.sections:
        if section.syllables:
            count = vocals.syllable_count(section_wave(song.vocal16, 16_000, section), 16_000)
            hits.append(abs(count / len(section.syllables) - 1) <= 0.2)
    return hits


def _gaps(song: CorpusSong) -> list[float]:
    """Level of the quietest sung section above each silent one, dB."""
    sung, silent = [], []
    for section in song.labels.sections:
        span = (section.start / FRAME_RATE, (section.start + section.frames) / FRAME_RATE)
        level = vocals.section_levels(song.vocal16, 16_000, [span])[0]
        (sung if section.syllables else silent).append(level)
    return [min(sung) - level for level in silent] if sung else []


def degradations(song: CorpusSong) -> dict[str, float]:
    """Distances between a song and its own noisy or dull copies."""
    noise = np.random.default_rng(0).standard_normal(len(song.mix16)).astype(np.float32) * 0.02
    silent = np.zeros_like(song.instrumental)
    return {
        "log_mel_self": distance.log_mel_distance(song.mix16, song.mix16, 16_000),
        "log_mel_noise": distance.log_mel_distance(song.mix16 + noise, song.mix16, 16_000),
        "si_sdr_noise": distance.si_sdr(song.mix16 + noise, song.mix16),
        "high_self": distance.high_band_correlation(song.mix, song.mix),
        "high_silent": distance.high_band_correlation(silent, song.instrumental),
    }
