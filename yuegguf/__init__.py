"""YuE lyrics-to-song without PyTorch: tags and lyrics in, mix and two stems out.

import yuegguf

request = yuegguf.SongRequest(genre="inspiring female pop", lyrics="[verse]\nHello, hello\n", seed=7)
song = yuegguf.generate(request, output_dir="songs")
print(song.folder, song.seconds, song.files)
"""

TYPE_CHECKING = False
"""Known to type checkers, which then see the names' own types; `typing` itself is not even imported."""
if TYPE_CHECKING:
    from yuegguf.api.checks import check_lyrics as check_lyrics
    from yuegguf.api.checks import model_fingerprints as model_fingerprints
    from yuegguf.api.files import bundle as bundle
    from yuegguf.api.files import decode as decode
    from yuegguf.api.files import encode as encode
    from yuegguf.api.files import encode_songs as encode_songs
    from yuegguf.api.files import export_song as export_song
    from yuegguf.api.files import import_song as import_song
    from yuegguf.api.files import install_kit as install_kit
    from yuegguf.api.files import pull as pull
    from yuegguf.api.songs import draft_extensions as draft_extensions
    from yuegguf.api.songs import draft_takes as draft_takes
    from yuegguf.api.songs import extend as extend
    from yuegguf.api.songs import generate as generate
    from yuegguf.api.songs import keep_takes as keep_takes
    from yuegguf.api.songs import list_takes as list_takes
    from yuegguf.api.songs import refine as refine
    from yuegguf.api.songs import render as render
    from yuegguf.api.songs import resume as resume
    from yuegguf.api.songs import resume_takes as resume_takes
    from yuegguf.audio.tempo_and_key import MusicEstimate as MusicEstimate
    from yuegguf.errors import YueError as YueError
    from yuegguf.exchange.decode_files import DecodedAudio as DecodedAudio
    from yuegguf.exchange.encode_files import EncodedFile as EncodedFile
    from yuegguf.exchange.encode_files import EncodeOptions as EncodeOptions
    from yuegguf.exchange.encode_files import FinetuningData as FinetuningData
    from yuegguf.exchange.imported import ImportedFolder as ImportedFolder
    from yuegguf.exchange.imported import ImportFacts as ImportFacts
    from yuegguf.exchange.importing import StemFiles as StemFiles
    from yuegguf.exchange.zip_bundle import Bundle as Bundle
    from yuegguf.lm.adapters import Lora as Lora
    from yuegguf.models.pull import PulledFile as PulledFile
    from yuegguf.models.pull import PullOptions as PullOptions
    from yuegguf.models.resolve import ModelChoice as ModelChoice
    from yuegguf.pipeline.extend import ExtendRequest as ExtendRequest
    from yuegguf.pipeline.takes import Take as Take
    from yuegguf.planning.compute_options import ComputeOptions as ComputeOptions
    from yuegguf.progress import Event as Event
    from yuegguf.request.fit import SectionFit as SectionFit
    from yuegguf.request.preview_options import PreviewOptions as PreviewOptions
    from yuegguf.request.sampling import Sampling as Sampling
    from yuegguf.request.song_request import FinishedSection as FinishedSection
    from yuegguf.request.song_request import GuideTrack as GuideTrack
    from yuegguf.request.song_request import Output as Output
    from yuegguf.request.song_request import Reference as Reference
    from yuegguf.request.song_request import Song as Song
    from yuegguf.request.song_request import SongRequest as SongRequest
    from yuegguf.song.recordings import stems_request as stems_request

__version__ = "0.1.0"
__all__ = [
    "Bundle",
    "ComputeOptions",
    "DecodedAudio",
    "EncodeOptions",
    "EncodedFile",
    "Event",
    "ExtendRequest",
    "FinetuningData",
    "FinishedSection",
    "GuideTrack",
    "ImportFacts",
    "ImportedFolder",
    "Lora",
    "ModelChoice",
    "MusicEstimate",
    "Output",
    "PreviewOptions",
    "PullOptions",
    "PulledFile",
    "Reference",
    "Sampling",
    "SectionFit",
    "Song",
    "SongRequest",
    "StemFiles",
    "Take",
    "YueError",
    "__version__",
    "bundle",
    "check_lyrics",
    "decode",
    "draft_extensions",
    "draft_takes",
    "encode",
    "encode_songs",
    "export_song",
    "extend",
    "generate",
    "import_song",
    "install_kit",
    "keep_takes",
    "list_takes",
    "model_fingerprints",
    "pull",
    "refine",
    "render",
    "resume",
    "resume_takes",
    "stems_request",
]

_NAMES = {
    "audio.tempo_and_key": "MusicEstimate",
    "api.checks": "check_lyrics model_fingerprints",
    "api.files": "bundle decode encode encode_songs export_song import_song install_kit pull",
    "api.songs": "draft_extensions draft_takes extend generate keep_takes list_takes refine render "
    "resume resume_takes",
    "errors": "YueError",
    "exchange.decode_files": "DecodedAudio",
    "exchange.encode_files": "EncodedFile EncodeOptions FinetuningData",
    "exchange.imported": "ImportedFolder ImportFacts",
    "exchange.importing": "StemFiles",
    "exchange.zip_bundle": "Bundle",
    "lm.adapters": "Lora",
    "models.pull": "PulledFile PullOptions",
    "models.resolve": "ModelChoice",
    "pipeline.extend": "ExtendRequest",
    "pipeline.takes": "Take",
    "planning.compute_options": "ComputeOptions",
    "progress": "Event",
    "request.fit": "SectionFit",
    "request.preview_options": "PreviewOptions",
    "request.sampling": "Sampling",
    "request.song_request": "FinishedSection GuideTrack Output Reference Song SongRequest",
    "song.recordings": "stems_request",
}
"""Module below `yuegguf` → the public names that are its own."""
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import on first use, so that `import yuegguf` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'yuegguf' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"yuegguf.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
