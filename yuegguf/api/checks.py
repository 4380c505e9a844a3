"""Checks before a song is generated: its words against its time, and the files that it would come from."""

from __future__ import annotations

from yuegguf.models.resolve import ModelChoice, resolve
from yuegguf.pipeline.create import warn_each
from yuegguf.pipeline.song_models import describe, describe_loras
from yuegguf.progress import Progress, silent
from yuegguf.request.fit import SectionFit, section_fit
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import Reference, SongRequest
from yuegguf.song.voices import voice_fingerprint


def check_lyrics(request: SongRequest, *, progress: Progress = silent) -> tuple[SectionFit, ...]:
    """Compare the words of each section with its time, without a model.

    What had to be interpreted in the lyrics comes as warnings through `progress`. Raises RequestError.
    """
    song = prepare(request)
    warn_each(song.notices, progress)
    return tuple(section_fit(section, request.segment_seconds, request.genre) for section in song.sections)


def model_fingerprints(
    models: ModelChoice | None = None, reference: Reference | None = None
) -> dict[str, str]:
    """Fingerprints of the model files that a song would be generated with, by role, in milliseconds.

    A reference may choose another stage-1 model; a saved voice has its own fingerprint. Another file at the
    same place has another one. Raises ModelNotFound, RequestError.
    """
    found = resolve(models or ModelChoice(), reference is not None)
    known: dict[str, str] = {role: file.fingerprint for role, file in describe(found).items()}
    for number, lora in enumerate(describe_loras(found), 1):
        known[f"lora {number}"] = f"{lora.fingerprint}*{lora.scale!r}"
    if reference is not None and reference.voice is not None:
        known["voice"] = voice_fingerprint(reference.voice)
    return known
