"""Detects broken sections from codebook 0: certain faults while they are sampled, doubtful ones at their end.

A section with a certain fault is generated again; one with a doubtful fault is kept, with a notice.
Thresholds, and the range of music that people kept. Real: 20 sections (18 with words) of three whole songs
of the published models. Nano: 252 sections (191 with words) of 100 held-out songs of the bundled family.
Each was checked every 50 frames and at its end; the first measure on 40 of those songs.

fault         measure                                      certain      doubtful     real        nano
silent voice  most of half a second in which the vocal     < 0.75, at                1.00 (0.44  >= 0.92
              sounds, of a section with words              its end                   without words)
              silent share of the vocal of such a section               >= 0.8       <= 0.39     <= 0.42
              … of its last 15 s                                        >= 0.95      <= 0.77     -
dead air      silent share of both tracks                  >= 0.95 of   >= 0.95 of   <= 0.61     0
                                                           10 s         6 s          of 6 s
loop          share of the vocal's changes in the last     >= 0.8                    <= 0.31     <= 0.23
              6 s that came alike one period before
collapse      bits of entropy of the vocal's sounding      < 1.6 in     < 1 in       >= 2.39,    >= 3.0
              codes                                        15 s         10 s         >= 1.43     in 6 s
              … of the instrumental's                      < 0.1 in                  >= 4.3      >= 0.37
                                                           6 s
short         length of a section with words that the      < 3 s                     >= 16.5 s   >= 3.8 s
              model ends

A shorter section is checked whole, from 6 s on. A silent vocal is certain at the section's end alone: a real
verse opens with 11.6 s without it, a chorus ends with 8 s, and a bridge ends in 8.4 s of one quiet code. So a
vocal that is stuck from the beginning is certain at the end alone, too.
Only a vocal can loop: a backing may repeat itself exactly, as nano's do (up to 1.0; the real ones' stay below
0.8), and hold a chord on one code. The real outro ends in 3.6 s of silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE

FaultKind = Literal["silent voice", "dead air", "loop", "collapse", "short"]
Codes = NDArray[np.int64]

MIN_FRAMES = 6 * FRAME_RATE
"""A section with a lower limit is too short to detect a silent vocal, silence or one sound in it."""
VOICED_FRAMES, VOICED_SHARE = FRAME_RATE // 2, 0.75
"""A vocal sounds if so much of any such span does; single codes of a silent vocal are noise."""
SILENT_SHARE, SILENT_FRAMES, SILENT_STRETCH = 0.8, 15 * FRAME_RATE, 0.95
"""Share of a section, and frames of which so many, that make a vocal's silence doubtful."""
DEAD_FRAMES, DOUBTFUL_DEAD_FRAMES, DEAD_SHARE = 10 * FRAME_RATE, 6 * FRAME_RATE, 0.95
LOOP_FRAMES, LOOP_SHARE = 6 * FRAME_RATE, 0.8
LOOP_PERIODS = range(2, 5 * FRAME_RATE + 1)
"""Frames; one code alone is a collapse."""
LOOP_CHANGES = 20
"""Minimum changes of code that distinguish a loop from a held note."""
VOCAL_FRAMES, VOCAL_BITS = 15 * FRAME_RATE, 1.6
DOUBTFUL_VOCAL_FRAMES, DOUBTFUL_VOCAL_BITS = 10 * FRAME_RATE, 1.0
MOVING_FRAMES, MOVING_BITS = 2 * FRAME_RATE, 2.0
"""Frames of a vocal that sounds, and their entropy if it is not stuck."""
BACKING_FRAMES, BACKING_BITS = 6 * FRAME_RATE, 0.1
SHORT_FRAMES = 3 * FRAME_RATE
STEP_FRAMES = FRAME_RATE
"""Frames between two ends of windows in a finished section."""


@dataclass(frozen=True)
class Fault:
    """Fault of a section."""

    kind: FaultKind
    sentence: str
    """Message without a full stop: "both tracks are silent for 10 s"."""
    frames: int
    """Frames of the section when the fault was detected."""
    certain: bool = True
    """False for what music may have as well: the section is kept, and the user is warned."""


@dataclass(frozen=True)
class FaultDetector:
    """Checks of a section's codes; pure; well under a millisecond for each second of music."""

    silence: int
    """The codec's code of silence in codebook 0; see `song.recordings.silence_codes`."""

    def check(
        self,
        codes: Sequence[int] | NDArray[np.integer],
        has_words: bool,
        *,
        limit: int | None = None,
        kept_frames: int = 0,
    ) -> Fault | None:
        """The certain fault at the end of a section's codes so far [2·frames] (vocal first), or None.

        `has_words`: the section has lyrics. `limit`: maximum frames of the section. `kept_frames`: frames at
        its beginning that were given; their faults do not count, since another attempt begins with them too.
        """
        vocal, backing = _tracks(codes)
        fault = self._fault_at_end(vocal[kept_frames:], backing[kept_frames:], has_words, limit)
        return replace(fault, frames=len(vocal)) if fault else None

    def review(
        self,
        codes: Sequence[int] | NDArray[np.integer],
        has_words: bool,
        *,
        ended: bool,
        limit: int | None = None,
        kept_frames: int = 0,
        min_frames: int = SHORT_FRAMES,
    ) -> Fault | None:
        """The first fault of a finished section, certain faults before doubtful ones, or None.

        `ended`: the model ended the section by itself; one that reached its limit is not short, and a silent
        vocal is no fault in less than 6 s. `min_frames`: a shorter section is a fault; lower it where the
        words are few. The others are those of `check`.
        """
        vocal, backing = _tracks(codes)
        frames = len(vocal)
        if has_words and ended and frames < min(SHORT_FRAMES, min_frames, *([limit] if limit else [])):
            sentence = f"the section ends after {_seconds(frames)} although it has words"
            return Fault("short", sentence, frames)
        if has_words and (ended or frames >= MIN_FRAMES) and frames and not self._is_voiced(vocal):
            sentence = f"the voice is silent for {_seconds(frames)} although the section has words"
            return Fault("silent voice", sentence, frames)
        if has_words and frames >= MIN_FRAMES and self._never_moves(vocal):
            return Fault("collapse", f"the voice is stuck on one sound for {_seconds(frames)}", frames)
        for end in _window_ends(kept_frames, frames):
            if fault := self._fault_at_end(
                vocal[kept_frames:end], backing[kept_frames:end], has_words, frames
            ):
                return replace(fault, frames=end)
        return self._doubt(vocal, backing, has_words, kept_frames)

    def _fault_at_end(self, vocal: Codes, backing: Codes, has_words: bool, limit: int | None) -> Fault | None:
        """The certain fault that a section has at its last frame."""
        frames = len(vocal)
        if has_words and (period := loop_period(vocal, self.silence)):
            return Fault("loop", f"the voice repeats the same {_seconds(period)}", frames)
        if self._is_dead(vocal, backing, window := _window(DEAD_FRAMES, limit)):
            return Fault("dead air", f"both tracks are silent for {_seconds(window)}", frames)
        if has_words and self._has_lost_voice(vocal, window := _window(VOCAL_FRAMES, limit)):
            return Fault("collapse", f"the voice is stuck on one sound for {_seconds(window)}", frames)
        if self._is_stuck(backing, BACKING_FRAMES, BACKING_BITS):
            sentence = f"the backing is stuck on one sound for {_seconds(BACKING_FRAMES)}"
            return Fault("collapse", sentence, frames)
        return None

    def _doubt(self, vocal: Codes, backing: Codes, has_words: bool, kept_frames: int) -> Fault | None:
        """The doubtful fault of a finished section without a certain one."""
        frames = len(vocal)
        if has_words and _holds(vocal == self.silence, max(frames, MIN_FRAMES), SILENT_SHARE):
            sounding = (vocal != self.silence).sum() / FRAME_RATE
            sentence = f"the voice sounds for {sounding:.1f} of {_seconds(frames)}"
            return Fault("silent voice", sentence, frames, certain=False)
        for end in _window_ends(kept_frames, frames):
            part = vocal[kept_frames:end], backing[kept_frames:end]
            if has_words and _holds(part[0] == self.silence, SILENT_FRAMES, SILENT_STRETCH):
                return Fault("silent voice", f"the voice is silent for {_seconds(SILENT_FRAMES)}", end, False)
            if has_words and self._is_stuck(part[0], DOUBTFUL_VOCAL_FRAMES, DOUBTFUL_VOCAL_BITS):
                sentence = f"the voice is stuck on one sound for {_seconds(DOUBTFUL_VOCAL_FRAMES)}"
                return Fault("collapse", sentence, end, certain=False)
            if self._is_dead(*part, DOUBTFUL_DEAD_FRAMES):
                sentence = f"both tracks are silent for {_seconds(DOUBTFUL_DEAD_FRAMES)}"
                return Fault("dead air", sentence, end, certain=False)
        return None

    def _is_voiced(self, vocal: Codes) -> bool:
        """Whether the vocal sounds throughout some half second, or the whole of a shorter section."""
        window = min(VOICED_FRAMES, len(vocal))
        sounding = np.concatenate([[0], np.cumsum(vocal != self.silence)])
        return bool((sounding[window:] - sounding[:-window]).max() >= VOICED_SHARE * window)

    def _is_dead(self, vocal: Codes, backing: Codes, window: int) -> bool:
        return _holds((vocal == self.silence) & (backing == self.silence), window, DEAD_SHARE)

    def _has_lost_voice(self, vocal: Codes, window: int) -> bool:
        """Whether the vocal is stuck for `window` frames and moved before; an opening may be quiet."""
        if not self._is_stuck(vocal, window, VOCAL_BITS):
            return False
        return self._moves(vocal[:-window])

    def _never_moves(self, vocal: Codes) -> bool:
        """Whether all that sounds of a vocal is one sound."""
        return entropy(vocal[vocal != self.silence]) < VOCAL_BITS and not self._moves(vocal)

    def _moves(self, vocal: Codes) -> bool:
        """Whether a vocal sounds somewhere for 2 s without being stuck."""
        for end in range(MOVING_FRAMES, len(vocal) + 1, VOICED_FRAMES):
            sounding = vocal[end - MOVING_FRAMES : end]
            sounding = sounding[sounding != self.silence]
            if len(sounding) >= VOICED_SHARE * MOVING_FRAMES and entropy(sounding) >= MOVING_BITS:
                return True
        return False

    def _is_stuck(self, codes: Codes, window: int, bits: float) -> bool:
        """Whether the last `window` frames sound, VOICED_SHARE of them at least, and have less entropy."""
        sounding = codes[-window:]
        sounding = sounding[sounding != self.silence]
        enough = len(codes) >= window and len(sounding) >= VOICED_SHARE * window
        return enough and entropy(sounding) < bits


def _tracks(codes: Sequence[int] | NDArray[np.integer]) -> tuple[Codes, Codes]:
    """V0 I0 V1 I1 … → vocal and instrumental [frames]; an odd last code is dropped."""
    whole = np.asarray(codes, np.int64)
    vocal, backing = whole[: len(whole) // 2 * 2].reshape(-1, 2).T
    return vocal, backing


def _window(frames: int, limit: int | None) -> int:
    """A window that a section of at most `limit` frames can fill."""
    return frames if limit is None else max(MIN_FRAMES, min(frames, limit))


def _window_ends(kept_frames: int, frames: int) -> list[int]:
    """Ends of the checked windows of a finished section: each second after `kept_frames`, and its end."""
    return [*range(kept_frames + STEP_FRAMES, frames, STEP_FRAMES), frames]


def _holds(mask: NDArray[np.bool_], window: int, share: float) -> bool:
    """Whether a share of the last `window` frames is true."""
    return len(mask) >= window and bool(mask[-window:].mean() >= share)


def _seconds(frames: int) -> str:
    return f"{frames / FRAME_RATE:.3g} s"


def loop_period(vocal: Codes, silence: int) -> int:
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


def entropy(codes: Codes) -> float:
    """Entropy of the distribution of codes, bits per code."""
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
