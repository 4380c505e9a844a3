"""The library of a node: a server's, or that of this Python."""

from __future__ import annotations

import os
from pathlib import Path

from .library import Library

SERVER_VARIABLE, KEY_VARIABLE = "YUEGGUF_SERVER", "YUEGGUF_SERVER_KEY"
SONGS_VARIABLE = "YUEGGUF_COMFY_SONGS"


def library_at(server: str | None) -> Library:
    """The library behind a server's URL; empty = $YUEGGUF_SERVER, else the one of this Python."""
    url = (server or "").strip() or os.environ.get(SERVER_VARIABLE, "").strip()
    if url:
        from .server_library import ServerLibrary

        return ServerLibrary.at(url, os.environ.get(KEY_VARIABLE, ""))
    from .local_library import LocalLibrary

    return LocalLibrary(songs_folder())


def songs_folder() -> Path:
    """The folder of songs of this Python: $YUEGGUF_COMFY_SONGS, else yuegguf/ in ComfyUI's output folder."""
    chosen = os.environ.get(SONGS_VARIABLE, "")
    if chosen:
        return Path(chosen)
    import folder_paths

    return Path(folder_paths.get_output_directory()) / "yuegguf"
