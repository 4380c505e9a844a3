"""Measures of audio against its request. Development only, numpy only.

`music` (tempo, key), `vocals` (loudness, syllables, register), `vowels` (a classifier), `distance`
(log-mel, SI-SDR, high band); `python -m nano.measure` prints what they say about clean songs of the corpus.
"""

from nano.measure.distance import high_band_correlation, log_mel_distance, si_sdr
from nano.measure.music import chroma, key, key_scores, same_tempo, tempo
from nano.measure.vocals import pitch_track, register, section_levels, syllable_count, syllable_spans
from nano.measure.vowels import VowelClassifier, accuracy, fit

__all__ = [
    "VowelClassifier", "accuracy", "chroma", "fit", "high_band_correlation", "key", "key_scores",
    "log_mel_distance", "pitch_track", "register", "same_tempo", "section_levels", "si_sdr", "syllable_count",
    "syllable_spans", "tempo",
]  # fmt: skip
