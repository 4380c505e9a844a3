"""Fields of an output that do nothing beside others."""

from __future__ import annotations

from collections.abc import Collection

from yuegguf.errors import RequestError
from yuegguf.request.song_request import Output

CHECKED = ("loudness", "fade", "artist", "year", "cover", "stereo", "stem_mode", "bits")
"""Fields of an Output that can be without effect."""


def check_effects(output: Output, given: Collection[str]) -> None:
    """Refuse a field of CHECKED that was `given` and does nothing beside the others. Raises RequestError."""
    upstream = output.mix == "upstream"
    level = "--mix upstream" if upstream else "--rescale"
    silent = output.loudness is not None and output.target_loudness is None
    idle = {
        "loudness": ("--loudness", silent, level),
        "fade": ("--fade", output.fade > 0 and upstream, level),
        "artist": ("--artist", not output.tags, "--no-tags"),
        "year": ("--year", not output.tags, "--no-tags"),
        "cover": ("--cover", output.cover is not None and not output.tags, "--no-tags"),
        "stereo": ("--stereo", output.stereo and upstream, level),
        "stem_mode": ("--stems joined", output.stem_mode == "joined" and upstream, level),
    }
    for name, (option, is_idle, cause) in idle.items():
        if name in given and is_idle:
            raise RequestError(f"{option} has no effect with {cause}", "leave one of them out")
    kinds = ",".join(output.formats)
    if "cover" in given and output.cover is not None and set(output.formats) == {"wav"}:
        raise RequestError("--cover has no effect with --format wav", "add a format that holds a picture")
    if "bits" in given and output.formats and not {"wav", "flac"} & {*output.formats}:
        raise RequestError(f"--bits has no effect with --format {kinds}", "leave one of them out")
    if "stem_mode" in given and not output.stems:
        raise RequestError("--stems has no effect with --no-stems", "leave one of them out")
