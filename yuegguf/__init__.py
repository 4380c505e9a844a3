"""YuE lyrics-to-song without PyTorch: tags and lyrics in, mix and two stems out.

import yuegguf

request = yuegguf.SongRequest(genre="inspiring female pop", lyrics="[verse]\nHello, hello\n", seed=7)
song = yuegguf.generate(request, output_dir="songs")
print(song.folder, song.seconds, song.files)
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = [
    "Early",
    "Event",
    "Lora",
    "Machine",
    "ModelChoice",
    "Output",
    "Reference",
    "Sampling",
    "Song",
    "SongRequest",
    "YueError",
    "__version__",
    "generate",
    "refine",
    "resume",
]

_HOMES = {
    "Early": "early",
    "Event": "progress",
    "Lora": "lora",
    "Machine": "plan",
    "ModelChoice": "models",
    "Output": "request",
    "Reference": "request",
    "Sampling": "sampling",
    "Song": "request",
    "SongRequest": "request",
    "YueError": "errors",
    "generate": "runtime",
    "refine": "runtime",
    "resume": "runtime",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import yuegguf` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'yuegguf' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"yuegguf.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
