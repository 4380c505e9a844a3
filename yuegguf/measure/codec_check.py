"""Check of an exported codec: a recording's codes against those that the authors' codec gave for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.measure.model_check import Verdict

MAX_SHIFT = 5
"""Frames by which another decoder of the recording may have moved it."""
RIGHT_SHARE = 0.7
"""Share of equal codes from which the encoder is the one that gave them. Below it nothing is certain: a
decoder that moves the recording by eight samples leaves a fifth of the codes (measured on nano)."""


@dataclass(frozen=True)
class CodecReport:
    """Equal codes of codebook 0."""

    frames: int
    same: float
    """Share of the frames with the same code."""
    shift: int
    """Frames by which the recording begins later here; 0 where the decoders agree."""

    @property
    def verdict(self) -> Verdict:
        """Whether the encoder is the one that gave the codes; never "wrong", see RIGHT_SHARE."""
        return "right" if self.same >= RIGHT_SHARE else "doubtful"

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "stage": "codec", "verdict": self.verdict}


def compare_codes(codes: NDArray[np.integer], expected: NDArray[np.integer]) -> CodecReport:
    """Compare codes [T] of codebook 0 with the expected ones [T'], at the shift where most are equal.

    Raises RequestError for a recording that is shorter by more than MAX_SHIFT frames.
    """
    frames = len(expected)
    if len(codes) < frames - MAX_SHIFT:
        seconds = f"{len(codes) / FRAME_RATE:.1f} s instead of {frames / FRAME_RATE:g}"
        raise RequestError(f"the recording has {seconds}", "pass the whole file")
    shares = {}
    for shift in sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs):
        ours, theirs = codes[max(0, shift) :], expected[max(0, -shift) :]
        count = min(len(ours), len(theirs))
        shares[shift] = float((ours[:count] == theirs[:count]).mean())
    best = max(shares, key=lambda shift: shares[shift])
    return CodecReport(frames, shares[best], best)
