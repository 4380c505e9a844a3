"""What stage 1 is likely to draw next: so that two draws can share a step.

With guidance a step computes two ids, and four cost hardly more where weights are read for all of them at
once (4-bit weights on a CPU: 3 %; see benchmarks/README.md). A guess is fed beside each row's own id: if it
is then drawn, the next draw needs no step. Codes repeat: after the same two codes of the same track a real
song went on alike in 18 of 100 cases. A code is drawn the same way whether it was guessed or not; only the
batch that its logits come from has another shape, and so other last bits. The same codes give the same
guesses, and so a resume the same batches.
"""

from __future__ import annotations

N_TRACKS = 2
MIN_CONFIDENCE = 0.3
"""Guess when at least this share of what followed before, and of one more unknown case, is the same."""


class NgramDrafter:
    """Learns the codes V0 I0 V1 I1 … of a song as they come; a pure function of them."""

    def __init__(self) -> None:
        self._codes: list[int] = []
        self._after: dict[tuple[int, ...], dict[int, int]] = {}
        self._best: dict[tuple[int, ...], tuple[int, int, int]] = {}
        """Context → its most frequent follower, how often that came, and how many there were."""

    def learn(self, code: int) -> None:
        """One more code of the song."""
        for context in self._contexts():
            counts = self._after.setdefault(context, {})
            counts[code] = counts.get(code, 0) + 1
            best, most, total = self._best.get(context, (code, 0, 0))
            if counts[code] > most:
                best, most = code, counts[code]
            self._best[context] = best, most, total + 1
        self._codes.append(code)

    def guess(self) -> int | None:
        """The code that follows the one learned last, or None where nothing is likely enough."""
        for context in self._contexts():
            if context in self._best:
                best, most, total = self._best[context]
                return best if most >= MIN_CONFIDENCE * (total + 1) else None
        return None

    def _contexts(self) -> list[tuple[int, ...]]:
        """The last two codes of the track whose turn it is, then the last alone."""
        codes, track = self._codes, len(self._codes) % N_TRACKS
        found = [(track, codes[-N_TRACKS], codes[-2 * N_TRACKS])] if len(codes) >= 2 * N_TRACKS else []
        return [*found, (track, codes[-N_TRACKS])] if len(codes) >= N_TRACKS else []
