"""A vowel classifier: Fisher's discriminant on mel bands, fitted on songs whose vowels are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano.measure.features import HOP_SECONDS, Doubles, Wave, log_mel

BANDS, HIGHEST_HZ = 32, 5000.0
RANGE_DB = 25.0
"""Bands further below the loudest of a frame say nothing: formants count, the noise floor does not."""
EDGE_S = 0.03
"""Left out at both ends of a vowel."""

Span = tuple[float, float]
"""Start and end of a vowel in seconds."""


def frames_of(vocal: Wave, rate: int, spans: Sequence[Span]) -> list[Doubles]:
    """Features [N, BANDS] of the inner frames of each span; at least the frame in its middle."""
    mel = log_mel(vocal, rate, BANDS, HIGHEST_HZ, window_s=0.04)
    loudest = mel.max(axis=1, keepdims=True)
    shape = np.maximum(mel - loudest, -RANGE_DB) / RANGE_DB
    out = []
    for start, end in spans:
        first = int(np.ceil((start + EDGE_S) / HOP_SECONDS))
        last = int(np.floor((end - EDGE_S) / HOP_SECONDS)) + 1
        if last <= first:
            first = min(round((start + end) / 2 / HOP_SECONDS), len(shape) - 1)
            last = first + 1
        out.append(shape[first:last])
    return out


@dataclass(frozen=True)
class VowelClassifier:
    """Linear scores of each vowel; the highest is taken."""

    names: tuple[str, ...]
    weight: Doubles
    """[BANDS, vowels]"""
    bias: Doubles
    """[vowels]"""

    def frame_scores(self, features: Doubles) -> Doubles:
        """Features [N, BANDS] → scores [N, vowels]."""
        return features @ self.weight + self.bias

    def classify(self, vocal: Wave, rate: int, spans: Sequence[Span]) -> list[str]:
        """The vowel of each span, from the mean score of its frames."""
        features = frames_of(vocal, rate, spans)
        return [self.names[int(np.argmax(self.frame_scores(f).mean(axis=0)))] for f in features]


Sample = tuple[Wave, int, Sequence[Span], Sequence[str]]
"""Vocal stem, its rate, spans of its vowels, and their names."""


def fit(samples: Iterable[Sample]) -> VowelClassifier:
    """Fit means and one shared covariance; every vowel counts the same, however often it is sung."""
    by_name: dict[str, list[Doubles]] = {}
    for vocal, rate, spans, names in samples:
        for name, features in zip(names, frames_of(vocal, rate, spans), strict=True):
            by_name.setdefault(name, []).append(features)
    names = tuple(sorted(by_name))
    groups = [np.concatenate(by_name[name]) for name in names]
    means = np.stack([group.mean(axis=0) for group in groups])
    scatter = np.mean([np.cov(group.T, bias=True) for group in groups], axis=0)
    # a little of the mean variance on the diagonal: some bands never move
    scatter += np.eye(len(scatter)) * (0.02 * float(np.trace(scatter)) / len(scatter) + 1e-9)
    weight = np.linalg.solve(scatter, means.T)
    return VowelClassifier(names, weight, -0.5 * np.sum(means.T * weight, axis=0))


def accuracy(found: Sequence[str], asked: Sequence[str]) -> float:
    """Share of vowels that are as asked, 0 … 1; balanced: the mean over the vowels that were asked."""
    pairs = list(zip(found, asked, strict=True))
    shares = []
    for name in set(asked):
        hits: NDArray[np.bool_] = np.array([f == a for f, a in pairs if a == name])
        shares.append(float(hits.mean()))
    return float(np.mean(shares)) if shares else 0.0
