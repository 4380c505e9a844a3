"""YuE lyrics-to-song without PyTorch: tags and lyrics in, mix and two stems out.

import yuegguf

request = yuegguf.SongRequest(genre="inspiring female pop", lyrics="[verse]\nHello, hello\n", seed=7)
song = yuegguf.generate(request, output_dir="songs")
print(song.folder, song.seconds, song.files)
"""

from __future__ import annotations

TYPE_CHECKING = False
"""Known to type checkers, which then see the names' own types; `typing` itself is not even imported."""
if TYPE_CHECKING:
    from yuegguf.api.songs import generate as generate
    from yuegguf.api.songs import refine as refine
    from yuegguf.api.songs import resume as resume
    from yuegguf.errors import YueError as YueError
    from yuegguf.lm.adapters import Lora as Lora
    from yuegguf.models.resolve import ModelChoice as ModelChoice
    from yuegguf.planning.compute_options import ComputeOptions as ComputeOptions
    from yuegguf.progress import Event as Event
    from yuegguf.request.preview_options import PreviewOptions as PreviewOptions
    from yuegguf.request.sampling import Sampling as Sampling
    from yuegguf.request.song_request import Output as Output
    from yuegguf.request.song_request import Reference as Reference
    from yuegguf.request.song_request import Song as Song
    from yuegguf.request.song_request import SongRequest as SongRequest

__version__ = "0.1.0"
__all__ = [
    "ComputeOptions",
    "Event",
    "Lora",
    "ModelChoice",
    "Output",
    "PreviewOptions",
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
    "ComputeOptions": "planning.compute_options",
    "Event": "progress",
    "Lora": "lm.adapters",
    "ModelChoice": "models.resolve",
    "Output": "request.song_request",
    "PreviewOptions": "request.preview_options",
    "Reference": "request.song_request",
    "Sampling": "request.sampling",
    "Song": "request.song_request",
    "SongRequest": "request.song_request",
    "YueError": "errors",
    "generate": "api.songs",
    "refine": "api.songs",
    "resume": "api.songs",
}


def __getattr__(name: str) -> object:
    """Import on first use, so that `import yuegguf` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'yuegguf' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"yuegguf.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
