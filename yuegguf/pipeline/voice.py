"""A recording's window → a voice."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from yuegguf.pipeline import engines, preflight
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event, Progress
from yuegguf.request.song_request import Reference
from yuegguf.song import encoding, voices
from yuegguf.song.recordings import reference_notices
from yuegguf.song.voices import Voice


def check_voice(
    name: str,
    reference: Reference,
    codec: Path,
    compute: ComputeOptions,
    *,
    replace: bool,
    progress: Progress,
) -> Reference:
    """The reference `located`, once all that a new voice needs is checked; notices come as warnings.

    Raises YueError.
    """
    voices.check_name_free(name, replace)  # before minutes of encoding
    for notice in reference_notices(reference):
        progress(Event("encode", 0, 1, warning=notice))
    located = preflight.located_reference(reference)
    room = engines.encoding_memory(codec, compute.max_memory)
    encoding.check_encoding_memory(located, None, room)
    return located


def encode_voice(
    name: str, located: Reference, codec: Path, compute: ComputeOptions, progress: Progress
) -> Voice:
    """The voice of a located reference, not saved yet. Raises YueError."""
    room = engines.encoding_memory(codec, compute.max_memory)
    with closing(engines.open_codec(codec, compute.threads)) as opened:
        codes = encoding.reference_codes(located, opened, room, progress)
    files = (located.mix, located.vocal, located.instrumental)
    return Voice(
        name,
        codes,
        dual=located.mix is None,
        sources=tuple(Path(file).name for file in files if file),
        start=located.start,
        codec=preflight.codec_id(codec),
        saved=datetime.now(UTC).date().isoformat(),
    )
