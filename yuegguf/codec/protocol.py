"""Interface of the audio codec: waves ↔ codes; nothing about files or songs."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Track = Literal["vocal", "instrumental"]

CODEC_RATE = 16_000
"""Sample rate of X-Codec, Hz."""
SONG_RATE = 44_100
"""Sample rate of the upsamplers and of every written file, Hz."""
FRAME_RATE = 50
"""Frames per second of one track."""
CODEC_HOP = 320
"""Samples per frame at CODEC_RATE."""
MIN_SAMPLES = CODEC_HOP - 8
"""Minimum samples of a wave for X-Codec's convolutions; they give one frame."""
SONG_HOP = 882
"""Samples per frame at SONG_RATE."""
CODEBOOKS = 8
"""Codebooks that YuE uses, of the codec's twelve."""


def whole_frames(start: float, end: float, frames: int) -> slice:
    """Frames between two times in seconds of a recording of `frames`; may be empty."""
    first, last = (round(FRAME_RATE * min(seconds, frames / FRAME_RATE)) for seconds in (start, end))
    return slice(first, max(first, last))


class AudioCodec(Protocol):
    """X-Codec and the two upsamplers."""

    def encode(self, wav16k: NDArray[np.float32]) -> NDArray[np.int16]:
        """Wave [S] at 16 kHz → codes [8, T], T = floor((S + 240) / 320)."""
        ...

    def decode(self, codes: NDArray[np.int16]) -> NDArray[np.float32]:
        """Codes [K, T], 1 ≤ K ≤ 8 → wave [320·T] at 16 kHz."""
        ...

    def upsample(self, codes: NDArray[np.int16], track: Track) -> NDArray[np.float32]:
        """Codes [8, T] → wave [882·T] at 44.1 kHz with the upsampler of that track."""
        ...

    def close(self) -> None:
        """Free the sessions. The codec cannot be used afterwards."""
        ...
