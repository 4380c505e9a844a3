"""Whether a tempo is the asked one; tempo and key themselves are `yuegguf.audio.tempo_and_key`'s."""

from __future__ import annotations

from yuegguf.audio.tempo_and_key import chroma as chroma
from yuegguf.audio.tempo_and_key import key as key
from yuegguf.audio.tempo_and_key import key_scores as key_scores
from yuegguf.audio.tempo_and_key import onset_strength as onset_strength
from yuegguf.audio.tempo_and_key import tempo as tempo


def same_tempo(found: float, asked: float, tolerance: float = 0.04) -> bool:
    """True if `found` is `asked`, its double or its half, within a tolerance."""
    return any(abs(found / (asked * factor) - 1) <= tolerance for factor in (0.5, 1.0, 2.0))
