"""How to open what the phases of a song need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yuegguf.codec.base import AudioCodec
from yuegguf.encoding import Room
from yuegguf.engine.base import TokenEngine
from yuegguf.tokenizer import Tokenizer


@dataclass(frozen=True)
class Parts:
    """How to open what the phases need; each is opened when its phase starts and closed after it."""

    stage1: Callable[[int], TokenEngine]
    """Takes the number of candidates."""
    tokenizer: Callable[[TokenEngine], Tokenizer]
    stage2: Callable[[int], TokenEngine]
    """Takes the number of rows."""
    codec: Callable[[], AudioCodec]
    cache_key: str
    """Names the stage-1 model and options; caches of another key are not used."""
    snapshot_seconds: float
    room: Callable[[], Room] = Room
    """What encoding recordings may take now."""
