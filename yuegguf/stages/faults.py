"""Detects broken sections from codebook 0 while they are being sampled.

Thresholds, and the range of music. Real: the eight sections (six with words) of a 187 s song of the
published models. Nano: 252 sections (191 with words) of 100 held-out songs of the bundled family. Each was
checked every 50 frames and at its end, and none had a fault.

fault         measure                                      fault    real       nano       detected after
silent voice  silent share of the vocal of a section with  >= 0.8   <= 0.14    <= 0.42    600 frames
              words, from 12 s on, at its limit or end
dead air      share of silence on both tracks, last 6 s    >= 0.95  <= 0.61    0          300 frames
loop          share of the vocal's changes in the last     >= 0.8   <= 0.02    <= 0.23    300 frames
              6 s that came alike one period before                                       and a period
collapse      bits of entropy of the vocal's sounding      < 2      >= 6.6     >= 3.0     300 frames
              codes in the last 6 s
              … of the instrumental's                      < 0.1    >= 4.3     >= 0.37    300 frames
short         length of a section with words that the      < 3 s    >= 16.5 s  >= 3.8 s   its end
              model ends

"Detected after" counts from where the fault begins, if it is checked then. Only a vocal can loop: a backing
may repeat itself exactly, as nano's do (up to 1.0; the real one's stay below 0.1), and hold a chord on one
code. The real outro ends in 3.6 s of silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE

FaultKind = Literal["silent voice", "dead air", "loop", "collapse", "short"]

SILENT_FRAMES, SILENT_SHARE = 12 * FRAME_RATE, 0.8
"""An instrumental opening of a verse may take some 10 s."""
MIN_LIMIT_FRAMES = 6 * FRAME_RATE
"""A section with a lower limit is too short to detect a silent vocal in it."""
DEAD_FRAMES, DEAD_SHARE = 6 * FRAME_RATE, 0.95
LOOP_FRAMES, LOOP_SHARE = 6 * FRAME_RATE, 0.8
LOOP_PERIODS = range(2, 5 * FRAME_RATE + 1)
"""Frames; one code alone is a collapse."""
LOOP_CHANGES = 20
"""Minimum changes of code that distinguish a loop from a held note."""
COLLAPSE_FRAMES, VOCAL_BITS, BACKING_BITS = 6 * FRAME_RATE, 2.0, 0.1
SHORT_FRAMES = 3 * FRAME_RATE


@dataclass(frozen=True)
class Fault:
    """Fault of a section."""

    kind: FaultKind
    sentence: str
    """Message without a full stop: "the voice is silent for 12 s although the section has words"."""
    frames: int
    """Frames of the section when the fault was detected."""


@dataclass(frozen=True)
class FaultDetector:
    """Checks of a section's codes; pure; well under a millisecond each."""

    silence: int
    """The codec's code of silence in codebook 0; see `song.recordings.silence`."""

    def check(
        self,
        codes: Sequence[int] | NDArray[np.integer],
        has_words: bool,
        *,
        ended: bool = False,
        limit: int | None = None,
        min_frames: int = SHORT_FRAMES,
    ) -> Fault | None:
        """The first fault of a section's codes so far [2·frames] (vocal first), or None.

        `has_words`: the section has lyrics. `ended`: the model ended the section by itself. `limit`: maximum
        frames of the section; one that reaches it is not short, and is checked for a silent vocal even below
        12 s if it has 6 s. `min_frames`: a shorter section is a fault; lower it where the words are few.
        """
        whole = np.asarray(codes, np.int64)
        vocal, backing = whole[: len(whole) // 2 * 2].reshape(-1, 2).T
        fault = self._vocal_fault(vocal, ended, limit, min_frames) if has_words else None
        fault = fault or self._dead_air(vocal, backing) or self._collapse(vocal, backing, has_words)
        return Fault(*fault, len(vocal)) if fault else None

    def _vocal_fault(
        self, vocal: NDArray[np.int64], ended: bool, limit: int | None, min_frames: int
    ) -> tuple[FaultKind, str] | None:
        """Faults of the vocal of a section with words."""
        frames = len(vocal)
        seconds = f"{frames / FRAME_RATE:.2g} s"
        most = SILENT_FRAMES if limit is None else limit
        if ended and frames < min(SHORT_FRAMES, most, min_frames):
            return "short", f"the section ends after {seconds} although it has words"
        checked = frames >= min(SILENT_FRAMES, max(most, MIN_LIMIT_FRAMES)) or ended
        if checked and frames and (vocal == self.silence).mean() >= SILENT_SHARE:
            return "silent voice", f"the voice is silent for {seconds} although the section has words"
        period = loop_period(vocal, self.silence)
        return ("loop", f"the voice repeats the same {period / FRAME_RATE:.2g} s") if period else None

    def _dead_air(self, vocal: NDArray[np.int64], backing: NDArray[np.int64]) -> tuple[FaultKind, str] | None:
        silent = (vocal[-DEAD_FRAMES:] == self.silence) & (backing[-DEAD_FRAMES:] == self.silence)
        if len(silent) < DEAD_FRAMES or silent.mean() < DEAD_SHARE:
            return None
        return "dead air", f"both tracks are silent for {DEAD_FRAMES / FRAME_RATE:g} s"

    def _collapse(
        self, vocal: NDArray[np.int64], backing: NDArray[np.int64], has_words: bool
    ) -> tuple[FaultKind, str] | None:
        tracks = [("voice", vocal, VOCAL_BITS)] if has_words else []
        for name, codes, least in [*tracks, ("backing", backing, BACKING_BITS)]:
            sounding = codes[-COLLAPSE_FRAMES:]
            sounding = sounding[sounding != self.silence]
            if len(sounding) >= COLLAPSE_FRAMES // 2 <= len(codes) // 2 and entropy(sounding) < least:
                return "collapse", f"the {name} is stuck on one sound for {COLLAPSE_FRAMES / FRAME_RATE:g} s"
        return None


def loop_period(vocal: NDArray[np.int64], silence: int) -> int:
    """The period in frames with which the end of a vocal [T] repeats itself, or 0.

    Compares changes of code, each with the code before it: a held note has none.
    """
    longest = LOOP_PERIODS.stop - 1
    periods = range(LOOP_PERIODS.start, min(longest, len(vocal) - LOOP_FRAMES - 1) + 1)
    if not periods:
        return 0
    part = vocal[-(LOOP_FRAMES + periods.stop) :]
    pairs = part[:-1] * 1024 + part[1:]
    end = pairs[-LOOP_FRAMES:]
    changes = (end // 1024 != end % 1024) & (end % 1024 != silence)
    if changes.sum() < LOOP_CHANGES:
        return 0
    earlier = np.stack([pairs[-LOOP_FRAMES - period : -period] for period in periods])
    shares = (earlier == end)[:, changes].mean(axis=1)
    return periods[int(shares.argmax())] if shares.max() >= LOOP_SHARE else 0


def entropy(codes: NDArray[np.int64]) -> float:
    """Entropy of the distribution of codes, bits per code."""
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
