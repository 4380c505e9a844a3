"""All nodes of the pack."""

from __future__ import annotations

from .other_nodes import YueLyricsCheck, YueVoice
from .song_nodes import YueDraft, YueExtend, YueRefine, YueSong, YueStems

NODES = (YueSong, YueDraft, YueRefine, YueStems, YueExtend, YueLyricsCheck, YueVoice)
"""In the order of their menu."""
