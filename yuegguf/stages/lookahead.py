"""Speculative decoding: an n-gram drafter predicts the next code, so that two codes can share a step.

With guidance a step computes two ids, and four cost hardly more where weights are read for all of them at
once (4-bit weights on a CPU: 3 %; see benchmarks/README.md). The drafted code is fed beside each sequence's
own id; if it is then sampled, the next code needs no step. Codes repeat: that saves 15, 19 and 26 % of the
steps of three real songs. A code is sampled the same way whether it was drafted or not; only the batch that
its logits come from has another shape, and so other last bits. The same codes give the same drafts, and so a
resume the same batches.
"""

from __future__ import annotations

N_TRACKS = 2
MIN_CONFIDENCE = 0.3
"""Minimum share of the most frequent follower among all followers seen and one unseen.

The best of thirteen on one real song for three prices of a draft (`python -m benchmarks.speculative`)."""
CONFIDENCES = ((0.0, 0.05), (0.07, 0.15), (0.22, MIN_CONFIDENCE), (0.38, 0.45), (0.7, 0.6))
"""Price of a draft, at most → confidence that pays (`benchmarks.speculative`).

So few that the noise of a measurement seldom gives a song another one."""
COSTLY_CONFIDENCE = 0.85
"""Confidence for a higher price."""


def confidence_for(price: float | None) -> float:
    """Minimum confidence for the part by which a draft makes a step longer; None = not timed."""
    if price is None:
        return MIN_CONFIDENCE
    return next((confidence for most, confidence in CONFIDENCES if price <= most), COSTLY_CONFIDENCE)


class NgramDrafter:
    """N-gram statistics of a song's codes V0 I0 V1 I1 …; a pure function of them."""

    def __init__(self, confidence: float = MIN_CONFIDENCE) -> None:
        """`confidence` is the song's, by its plan."""
        self._confidence = confidence
        self._codes: list[int] = []
        self._followers: dict[tuple[int, ...], dict[int, int]] = {}
        """Context → count of each code that followed it."""
        self._best: dict[tuple[int, ...], tuple[int, int, int]] = {}
        """Context → its most frequent follower, that one's count, and the count of all."""
        self._contexts: list[tuple[int, ...]] = []
        """The last two codes of the track that comes next, then the last alone."""

    def update(self, code: int) -> None:
        """Count the next code of the song."""
        for context in self._contexts:
            counts = self._followers.setdefault(context, {})
            counts[code] = counts.get(code, 0) + 1
            best, most, total = self._best.get(context, (code, 0, 0))
            if counts[code] > most:
                best, most = code, counts[code]
            self._best[context] = best, most, total + 1
        codes = self._codes
        codes.append(code)
        track = len(codes) % N_TRACKS
        last = [(track, codes[-N_TRACKS])] if len(codes) >= N_TRACKS else []
        last_two = [(track, codes[-N_TRACKS], codes[-2 * N_TRACKS])] if len(codes) >= 2 * N_TRACKS else []
        self._contexts = [*last_two, *last]

    def predict(self) -> int | None:
        """The most likely next code, or None below the confidence."""
        for context in self._contexts:
            if context in self._best:
                best, most, total = self._best[context]
                return best if most >= self._confidence * (total + 1) else None
        return None
